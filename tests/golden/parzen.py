"""Golden numbers for haqa/sampler/parzen_test.cpp. Ran with SciPy 1.17.1; prints C++ initializers.

A real x from 0 to 1, a choice c of three, a whole number n from 1 to 4: observed at (0.2, a, 1) and (0.6, b, 4). The
deviation is 0.1 n^(-1 / (d + 4)), for n at least half its part of the interval; an unobserved choice weighs 1 / (n + 1)
of an observed one's addition.
"""
import math

import scipy
from scipy.stats import truncnorm

OBSERVED = [(0.2, "a", 1), (0.6, "b", 4)]


def normal(mean, deviation):
    return truncnorm(-mean / deviation, (1 - mean) / deviation, mean, deviation)


def density(x, c, n):
    deviation = 0.1 * len(OBSERVED) ** (-1 / (3 + 4))
    kernels = [1 * 1 / 3 * 1 / 4]
    for ox, oc, on in OBSERVED:
        part = normal((on - 0.5) / 4, max(deviation, 1 / 8))
        choice = ((1 if c == oc else 0) + 1 / 3) / 2
        kernels.append(normal(ox, deviation).pdf(x) * choice * (part.cdf(n / 4) - part.cdf((n - 1) / 4)))
    return math.fsum(kernels) / 3


print("//", scipy.__version__)
for x, c, n in ((0.2, "a", 1), (0.25, "a", 2), (0.6, "b", 4), (0.5, "d", 3), (1, "a", 4), (0, "d", 1)):
    print('{%r, "%s", %d, %r},' % (float(x), c, n, math.log(density(x, c, n))))
