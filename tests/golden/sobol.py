"""Golden points for haqa/sampler/quasi_random_test.cpp. Ran with SciPy 1.17.1; prints C++ initializers."""
import scipy
from scipy.stats import qmc

DIMENSIONS, INDICES, COORDINATES = 64, (1, 2, 3, 5, 100, 1000, 4095), (0, 1, 2, 3, 7, 20, 63)
points = qmc.Sobol(DIMENSIONS, scramble=False).random(4096)
print("//", scipy.__version__)
for i in INDICES:
    print("{%d, {%s}}," % (i, ", ".join(repr(float(points[i][d])) for d in COORDINATES)))
