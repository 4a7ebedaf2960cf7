"""Golden numbers for haqa/sampler/truncated_normal_test.cpp. Ran with SciPy 1.17.1; prints C++ initializers."""
import scipy
from scipy.stats import truncnorm

print("//", scipy.__version__)
for mean, deviation in ((0.5, 1), (0.5, 0.05), (0, 0.2), (1, 0.01), (0.3, 0.4), (0.97, 5)):
    d = truncnorm(-mean / deviation, (1 - mean) / deviation, mean, deviation)
    densities = ", ".join(repr(float(d.logpdf(x))) for x in (0, 0.2, 0.5, 0.95, 1))
    masses = ", ".join(repr(float(d.cdf(b) - d.cdf(a)) if b < 0.9 else float(d.sf(a) - d.sf(b))) for a, b in ((0, 0.1), (0.4, 0.6), (0.95, 1)))
    quantiles = ", ".join(repr(float(d.ppf(q))) for q in (1e-6, 0.1, 0.5, 0.99))
    print("{%r, %r, {%s}, {%s}, {%s}}," % (float(mean), deviation, densities, masses, quantiles))
