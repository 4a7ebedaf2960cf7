"""Golden numbers for haqa/sampler/gaussian_process_test.cpp. Ran with scikit-learn 1.9.1; prints C++ initializers.

The kernel is Matern-5/2 with a length scale per coordinate; values are standardized by their sample deviation.
"""
import numpy as np
import sklearn
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

x = np.array([[0.1, 0.9], [0.4, 0.2], [0.5, 0.5], [0.8, 0.7], [0.95, 0.05]])
y = np.array([1.2, 0.7, 1.9, 1.1, 0.3])
queries = np.array([[0.1, 0.9], [0.45, 0.4], [0.0, 0.0], [1.0, 1.0]])
shift, scale = y.mean(), y.std(ddof=1)
for noise in (1e-3, 0.1):
    process = GaussianProcessRegressor(Matern([0.3, 0.7], nu=2.5), alpha=noise + 1e-9, optimizer=None)
    process.fit(x, (y - shift) / scale)
    mean, deviation = process.predict(queries, return_std=True)
    print("//", sklearn.__version__, "noise", noise, "log marginal likelihood", repr(process.log_marginal_likelihood()))
    for m, d in zip(mean, deviation):
        print("{%.12f, %.12f}," % (shift + scale * m, scale * d))
