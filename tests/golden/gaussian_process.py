"""Golden numbers for haqa/sampler/gaussian_process_test.cpp. Ran with scikit-learn 1.9.1; prints C++ initializers.

The kernel is Matern-5/2 with a length scale per coordinate; values are standardized by their sample deviation.
"""
import numpy as np
import sklearn
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

PLANE = dict(
    x=[[0.1, 0.9], [0.4, 0.2], [0.5, 0.5], [0.8, 0.7], [0.95, 0.05]],
    y=[1.2, 0.7, 1.9, 1.1, 0.3],
    queries=[[0.1, 0.9], [0.45, 0.4], [0.0, 0.0], [1.0, 1.0]],
    scales=[0.3, 0.7],
)
# Large values, the same point twice with other values, three coordinates.
SPACE = dict(
    x=[[0, 0, 0], [1, 0.5, 0.25], [1, 0.5, 0.25], [0.3, 1, 0.8], [0.6, 0.2, 0.9], [0.5, 0.5, 0.5]],
    y=[1000200.0, 1000950.0, 1000930.0, 1000410.0, 999800.0, 1000600.0],
    queries=[[1, 0.5, 0.25], [0.2, 0.7, 0.1], [0, 1, 1]],
    scales=[0.25, 1.5, 0.6],
)
for data, noise in ((PLANE, 1e-3), (PLANE, 0.1), (SPACE, 0.02)):
    x, y = np.array(data["x"], dtype=float), np.array(data["y"])
    shift, scale = y.mean(), y.std(ddof=1)
    process = GaussianProcessRegressor(Matern(data["scales"], nu=2.5), alpha=noise + 1e-9, optimizer=None)
    process.fit(x, (y - shift) / scale)
    mean, deviation = process.predict(np.array(data["queries"], dtype=float), return_std=True)
    print("//", sklearn.__version__, "noise", noise, "log marginal likelihood", repr(process.log_marginal_likelihood()))
    for m, d in zip(mean, deviation):
        print("{%.12f, %.12f}," % (shift + scale * m, scale * d))

# The logarithm of the expected improvement, where the amount itself has no digits left. Ran with mpmath 1.3.0.
import mpmath

mpmath.mp.dps = 60
for mean, deviation, best in ((1, 0.5, 0.7), (0, 1, 5), (0, 1, 11.9), (0, 1, 12.1), (0, 2, 80), (-3, 0.1, 4)):
    z = (mpmath.mpf(mean) - best) / mpmath.mpf(deviation)
    print("{%g, %g, %g, %.10f}," % (mean, deviation, best, mpmath.log(deviation * (mpmath.npdf(z) + z * mpmath.ncdf(z)))))
