#include "../rms_norm/rms_norm.h"

void haqa_kernel(const haqa_launch* launch) {
  rms_norm(launch, [](Floats v, int64_t, auto) { return v; });
}
