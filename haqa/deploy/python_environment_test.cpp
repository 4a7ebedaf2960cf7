#include "haqa/deploy/python_environment.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

TEST(PythonEnvironment, IsMadeOnceAndTriedAgainAfterAFailure) {
  const TemporaryFolder cache;
  setenv("HAQA_CACHE", cache.path().c_str(), 1);
  Progress quiet(true);
  int calls = 0;
  std::string script = "echo no network >&2; exit 1";
  const PythonEnvironment environment = {"some-1.0", "some program", [&](const fs::path& venv) {
                                           ++calls;
                                           return run_process({{"/bin/sh", "-c", script, "sh", venv}});
                                         }};
  const auto fault = [&]() -> std::string {
    try {
      python_of(environment, quiet);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  };
  EXPECT_THAT(fault(), AllOf(HasSubstr("the Python environment of some program cannot be made"),
                             HasSubstr("no network"), HasSubstr("check the network")));
  script = "mkdir -p \"$1/bin\" && touch \"$1/bin/python\"";
  EXPECT_EQ(python_of(environment, quiet), cache / "some-1.0" / "bin/python");
  EXPECT_EQ(python_of(environment, quiet), cache / "some-1.0" / "bin/python");
  EXPECT_EQ(calls, 2);
  fs::remove(cache / "some-1.0" / "bin/python");  // somebody cleared up
  python_of(environment, quiet);
  EXPECT_EQ(calls, 3);
  const PythonEnvironment none = {"none", "some program",
                                  [](const fs::path&) { return run_process({{"/no/such/python3"}}); }};
  EXPECT_THROW(
      try { python_of(none, quiet); } catch (const Error& error) {
        EXPECT_THAT(error.what(), AllOf(HasSubstr("cannot be made"), HasSubstr("/no/such/python3")));
        throw;
      },
      Error);
  unsetenv("HAQA_CACHE");
}

}  // namespace
}  // namespace haqa
