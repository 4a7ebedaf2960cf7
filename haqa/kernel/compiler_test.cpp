#include "haqa/kernel/compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/contestant.h"
#include "haqa/kernel/kernel_spec.h"

namespace haqa {
namespace {

SourceVariant simple(const std::string& body, const Configuration& parameters = Configuration::object()) {
  return {
      "#include \"kernel.h\"\nextern \"C\" void haqa_kernel(const haqa_launch*) {" + body + "}\n", parameters, {}, {}};
}

TEST(CompileTest, IsRememberedByAllThatMatters) {
  const Compiled first = compile(simple("", {{"unroll", 4}}), /*again=*/true);
  EXPECT_FALSE(first.cached);
  EXPECT_TRUE(std::filesystem::exists(first.library));
  const Compiled again = compile(simple("", {{"unroll", 4}}));
  EXPECT_TRUE(again.cached);
  EXPECT_EQ(again.library, first.library);
  EXPECT_LT(again.seconds, 0.05);
  EXPECT_EQ(compile(simple("", {{"unroll", 4}, {"threads", 2}})).library, first.library) << "no macro";
  EXPECT_NE(compile(simple("", {{"unroll", 8}})).library, first.library);
  EXPECT_NE(compile(simple(";", {{"unroll", 4}})).library, first.library);
}

TEST(CompileTest, ParametersAreMacros) {
  EXPECT_NO_THROW(compile(simple("static_assert(width == 8 && fast == 1); enum { soon = 3 }; static_assert(when == 3);",
                                 {{"width", 8}, {"fast", true}, {"when", "soon"}})));
}

std::string fault_of(const SourceVariant& variant, KernelFaultKind kind) {
  try {
    compile(variant);
  } catch (const KernelFault& fault) {
    EXPECT_EQ(fault.kind, kind);
    return fault.what();
  }
  ADD_FAILURE() << "it compiled";
  return "";
}

TEST(CompileTest, TellsTheAuthorWhatIsWrongInHisSource) {
  const std::string message = fault_of(simple("return lunch;"), KernelFaultKind::does_not_compile);
  EXPECT_NE(message.find("code:2:"), std::string::npos) << message;
  EXPECT_NE(message.find("lunch"), std::string::npos) << message;
  EXPECT_EQ(message.find("/tmp"), std::string::npos) << "no folder of ours: " << message;
}

TEST(CompileTest, NothingRunsWhenAVariantIsLoaded) {
  EXPECT_EQ(runs_when_loaded(compile(simple("")).library), std::nullopt);
  for (const char* code : {"int f(); int f() { return 1; } int x = f() + *(volatile int*)&x;",
                           "struct S { S(); int i; }; S::S() : i(*(volatile int*)this) {} S s;",
                           "__attribute__((constructor)) void c() {}", "__attribute__((destructor)) void d() {}"}) {
    SourceVariant variant = simple("");
    variant.source += code;
    EXPECT_NE(fault_of(variant, KernelFaultKind::refused_source).find("runs when it is loaded"), std::string::npos)
        << code;
  }
  SourceVariant chosen{
      "#include \"kernel.h\"\nextern \"C\" void* choose() { return nullptr; }\n"
      "extern \"C\" void haqa_kernel(const haqa_launch*) __attribute__((ifunc(\"choose\")));\n",
      Configuration::object(),
      {},
      {}};
  EXPECT_NE(fault_of(chosen, KernelFaultKind::refused_source).find("version is chosen"), std::string::npos);
  const TemporaryFolder folder;
  for (const char* text : {"", "not an ELF file",
                           "\x7f"
                           "ELF\2\1\1"}) {
    write_file(folder / "x.so", text);
    EXPECT_THROW(runs_when_loaded(folder / "x.so"), Error);
  }
}

TEST(CompileTest, TellsWhichFunctionsALibraryOffers) {
  SourceVariant variant = simple("");
  variant.source += "\nextern \"C\" void another() {}\nstatic void hidden() {}\nextern \"C\" int a_number = 1;\n";
  const std::vector<std::string> names = functions_of(compile(variant).library);
  EXPECT_THAT(names, testing::UnorderedElementsAre("haqa_kernel", "another"));
}

TEST(CompileTest, ReadsNoFilesButTheCompilersOwn) {
  // Where the kernel has Landlock, what the check of the source would miss is kept out besides.
  const TemporaryFolder elsewhere;
  write_file(elsewhere / "secret.h", "int secret = lunch;\n");
  SourceVariant variant = simple("");
  variant.options = {"-include", (elsewhere / "secret.h").string()};
  const std::string message = fault_of(variant, KernelFaultKind::does_not_compile);
  if (message.find("lunch") != std::string::npos) GTEST_SKIP() << "this system has no Landlock";
  EXPECT_NE(message.find("ermission denied"), std::string::npos) << message;
}

TEST(CompileTest, AMissingCompilerIsNamed) {
  try {
    compile(simple("", {{"compiler", "no-such-compiler"}}));
    FAIL();
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("no-such-compiler"), std::string::npos);
  }
}

TEST(KeepNewestTest, KeepsTheNewerHalfWhereThereAreTooMany) {
  const TemporaryFolder folder;
  const auto now = std::filesystem::file_time_type::clock::now();
  const auto library = [&](int i) { return folder / (std::to_string(i) + ".so"); };
  for (int i = 0; i < 9; ++i) {
    write_file(library(i), "x");
    note_passed(library(i), "a problem");
    std::filesystem::last_write_time(library(i), now - std::chrono::hours(i));
  }
  keep_newest(folder.path(), 9);
  EXPECT_TRUE(std::filesystem::exists(library(8))) << "9 are not too many, with as many notes";
  keep_newest(folder.path(), 8);
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(std::filesystem::exists(library(i)), i < 4) << i;
    EXPECT_EQ(has_passed(library(i), "a problem"), i < 4) << i;
  }
  EXPECT_NO_THROW(keep_newest(folder / "missing", 1));
}

}  // namespace
}  // namespace haqa
