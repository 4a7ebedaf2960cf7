// Free text never crashes the search for objects; what it finds is an object; a trial is read or refused with an Error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/study/trial.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const haqa::Json& object : haqa::find_json_objects({reinterpret_cast<const char*>(data), size})) {
    if (!object.is_object()) std::abort();
    try {
      haqa::trial_from_json(object);
    } catch (const haqa::Error&) {
    }
  }
  return 0;
}
