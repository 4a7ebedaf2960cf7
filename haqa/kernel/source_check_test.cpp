#include "haqa/kernel/source_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <random>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/kernel_spec.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

TEST(RefusedInSourceTest, LetsPassWhatKernelsNeed) {
  for (const char* source : {
           "#include <stdint.h>\n#include \"kernel.h\"\nvoid f() {}",
           "#  include   <immintrin.h>  // vectors\n#pragma GCC unroll 4\n",
           "#include \"../vector.h\"\n#define JOIN(a, b) a##b\nint JOIN(x, y);",
           "void f() { asm(\"vmovups %1, %0\" : : ); }",
           "void f() { asm(\"sdot %0.4s, %1.16b\\n\\tnop\" : : ); }",
           "#define JOIN(a, b) a ## b\n#define THIRD(a, b, c) a##b##c\nint n = 5 % -1;",
           "#define MARK '#'\n#define TEXT \"a # b\"\n",
           "#error \"a kernel defines this. See there\"\n",
           "const char c = 'R'; // R\"(comment)\"",
           "double d = 1.5; const char* t = \"R\";",
           "asm volatile(\"vmovups %1, %0\" : \"=m\"(out.v) : \"m\"(in.v));",
           "int n = 1'000'000; // it's a number",
           "int n = 0xa'b; double d = .5'5, e = 1.5'0; char c = 'a';",
       })
    EXPECT_EQ(refused_in_source(source), std::nullopt) << source;
  for (const std::string& name : kernel_names())
    EXPECT_EQ(refused_in_source(read_file(kernels_folder() / name / "cpu.cpp")), std::nullopt) << name;
}

TEST(RefusedInSourceTest, RefusesWhatReadsFiles) {
  for (const char* source : {
           "#include \"/etc/passwd\"",
           "#include <sys/socket.h>",
           "#include \"../../secret.h\"",
           "#include_next <stdint.h>",
           "#import \"/etc/passwd\"",
           "#embed \"/etc/passwd\"",
           "# /* x */ include \"/etc/passwd\"",
           "%:include \"/etc/passwd\"",
           "#define F \"/etc/passwd\"\n#include F",
           "#in\\\nclude \"/etc/passwd\"",
           "#line 1 \"/etc/passwd\"",
           "#\\ \ninclude \"/etc/passwd\"",
           "#inc\\\t\r\nlude \"/etc/passwd\"",
           "int a = 1'0 + '/*';\n#include \"/x\"\nint b = '*/';",
           "asm(\"nop\n\\ \n.incbin '/x'\");",
           "asm(\".incbin \\\"/etc/passwd\\\"\");",
           "asm(\".inc\" \"bin /etc/passwd\");",
           "asm(\".\" \"incbin /etc/passwd\");",
           "asm(\"nop\\n.include \\\"x\\\"\");",
           "asm(\"\\x2eincbin x\");",
           "#define S(x) #x\nasm(S(.incbin));",
           "#define S(x) %:x\nasm(S(.incbin));",
           "%:define S(x) %:x\nasm(S(.incbin));",
           "#define S(x, y) y###x\nasm(S(.incbin \"/etc/passwd\",));",
           "#define S(x, y) y%:%:%:x\nasm(S(.incbin \"/etc/passwd\",));",
           "#define S(x, y) y## # x\nasm(S(.incbin \"/etc/passwd\",));",
           "#define S(x) \"\"#x\nasm(S(.incbin));",
           "#define S(x) '\"' \"\"#x '\"'\nasm(S(.incbin));",
           "#define S(...) #__VA_ARGS__\nasm(S(.incbin));",
           "?\?=include \"/etc/passwd\"",
           "const char* a = \"?\?/\"; asm(\".incbin 'x'\");",
           "#define D \".incbin x\"\nasm(D);",
           "_Pragma(\"once\")",
           "#if __has_include(\"/root/.ssh/id\")\n#endif",
           "const char* t = R\"(\n)\";\n#include \"/etc/passwd\"",
           "auto t = u8R\"(x)\";",
           "#pragma GCC dependency \"/etc/passwd\"",
           "int a = L'\"', *b = \"/*\";\n#include \"/etc/passwd\"\n",
           "int a = u8'\"'; const char* b = \"/*\";\nasm(\".incbin 'x'\");",
           "int f() { return'\"'; } const char* b = \"/*\";\n#include <stdlib.h>\n",
           "int a; /*\n*/ #include \"/etc/passwd\"",
           "#if 0\n#\"x\"\n#endif",
           "#define J(a, b) a##b\n#if J(__has_, include)(\"/etc/passwd\")\n#endif",
           "#define J(a, b) a##b\n#if J(__has_inc, lude)(\"/etc/passwd\")\n#endif",
           "#define J(a) _P##a\nJ(ragma)(\"once\")",
       })
    EXPECT_TRUE(refused_in_source(source)) << source;
  EXPECT_TRUE(refused_in_source(std::string("int a;\0int b;", 13)));
  EXPECT_TRUE(refused_in_source(std::string(2 << 20, ' ')));
}

/// What compilers could read in other ways than this check does.
TEST(RefusedInSourceTest, RefusesWhatIsAmbiguous) {
  for (const char* source : {
           "#define Q 1'/*'\n#include \"/etc/passwd\"\n/* */",
           "#define Q 1'/*'\nint a;\n/* */",
           "int a = 1e+'0';",
           "int a = 0x'f;",
           "#define R\nauto a = \"\"R\"(x\" /* )\";",
           "auto a = \"x\"_y;",
           "auto a = 'x'R\"(x)\";",
           "auto a = 1R\"(x)\";",
           "auto a = \u00e9R\"(x)\";",
           "auto a = \xc3\xa9R\"(x)\";",
           "auto a = $R\"(x)\";",
           "auto a = \\u00e9R\"(x)\";",
           "auto a = case'a';",
           "#define Z /\r*\nint a;\n/* */",
           "int a;\rint b;",
           "int a;\f#include <stdlib.h>",
           "int a; /* no end",
           "#if 0\nit's no character\n#endif",
           "const char* t = \"no end;\n\";",
           "int a <%:> = 5;",
           "int a; \\",
       })
    EXPECT_TRUE(refused_in_source(source)) << source;
  EXPECT_EQ(refused_in_source("int a;\r\n#define A \\\r\n 5\r\n"), std::nullopt) << "lines may end as in DOS";
  for (const char* source : {"int a = 1'0;", "#define Q 1'/*'\n int a; /* */", "L'a'", "u8\"/*\""})
    EXPECT_TRUE(refused_in_device_source(source)) << source;
}

TEST(RefusedInSourceTest, LongLinesAreNoTrouble) {
  const std::string many(900000, ' '), points(900000, '.'), letters(900000, '_');
  for (const std::string& source :
       {"#" + many + "define" + many + "x" + many, "#pragma GCC" + many + "unroll 4", "a\\" + many + "b",
        "int " + letters + "asm" + letters + ";", "auto a = \"GCC" + many + "\";", "/*" + many + "*/ #" + many,
        "#define A " + points, "auto a = \". " + many + "4\";"}) {
    refused_in_source(source);
    refused_in_device_source(source);
  }
  EXPECT_TRUE(refused_in_source("asm(\"." + many + "\");"));
}

/// Words, marks and ends of lines in any order.
std::string soup(std::mt19937_64& random) {
  static const std::vector<std::string> kPieces = {
      "'",    "\"",     "\\",   "/",   "*",      "//",   "/*",    "*/",   "\n",    "\\\n",
      "\r\n", "\\\r\n", " ",    "\t",  "0",      "1'",   "'0",    "0x",   ".",     "e+",
      "R",    "u8",     "L",    "uR",  "R\"(",   ")\"",  "(",     ")",    "a",     "_b",
      "$",    "%:",     "%",    ":",   "<",      ">",    "?",     "-",    "+",     "\\n",
      "\\\"", "\\'",    "\"\"", "'a'", "\"/*\"", "'\"'", "\"'\"", "/**/", "1'000", "\n#define R R\n"};
  std::string text;
  for (size_t n = 2 + random() % 9; n > 0; --n) text += kPieces[random() % kPieces.size()];
  return text;
}

/// Nor backslashes: clang prints some that join lines.
std::string without_blanks(std::string text) {
  std::erase_if(text, [](unsigned char c) { return std::isspace(c) || c == '\\'; });
  return text;
}

/// What a compiler's preprocessor leaves, definitions too; nullopt where there is no such compiler.
std::optional<std::string> preprocessed(const std::vector<std::string>& compiler, const std::filesystem::path& file) {
  Command command{compiler};
  for (const char* option : {"-w", "-E", "-P", "-dD", "-undef", "-nostdinc"}) command.argv.emplace_back(option);
  command.argv.push_back(file.string());
  ProcessResult result;
  try {
    result = run_process(command);
  } catch (const Error&) {
    return std::nullopt;
  }
  return without_blanks(result.output.substr(std::min(result.output.size(), result.output.find("beginning_of_soup"))));
}

/// What no compiler is there to tell is not compared.
void expect_to_read_as(const std::vector<std::string>& compiler, SourceLanguage language) {
  std::mt19937_64 random(7);
  std::string source = "beginning_of_soup\n", ours;
  size_t accepted = 0;
  for (int i = 0; i < 60000; ++i) {
    const std::string text = soup(random) + "\n#undef R\nnext\n";
    try {
      for (const SourceLine& line : source_lines(text, language)) ours += line.text;
    } catch (const AmbiguousSource&) {
      continue;
    }
    source += text;
    ++accepted;
  }
  EXPECT_GT(accepted, 5000u);
  const TemporaryFolder folder;
  write_file(folder / "soup.cpp", source);
  const std::optional<std::string> theirs = preprocessed(compiler, folder / "soup.cpp");
  if (!theirs) return;
  const std::string is = *theirs, should_be = without_blanks("beginning_of_soup" + ours);
  const auto [a, b] = std::mismatch(is.begin(), is.end(), should_be.begin(), should_be.end());
  const auto at = static_cast<size_t>(a - is.begin());
  EXPECT_TRUE(a == is.end() && b == should_be.end())
      << compiler.front() << " has: " << is.substr(at < 40 ? 0 : at - 40, 80)
      << "\nand we: " << should_be.substr(at < 40 ? 0 : at - 40, 80);
}

TEST(SourceLinesTest, AreWhatCompilersRead) {
  expect_to_read_as({"g++", "-std=c++20"}, SourceLanguage::cpp);
  expect_to_read_as({"clang++", "-std=c++20"}, SourceLanguage::cpp);
  expect_to_read_as({"clang++", "-x", "cl", "-cl-std=CL1.2"}, SourceLanguage::device);
}

TEST(RefusedInDeviceSourceTest, RefusesWhatReachesTheDriver) {
  for (const char* source : {"#include \"x\"", "%:include \"x\"", "%: include <x>", "void f() { asm(\"trap;\"); }",
                             "#define J(a, b) a##b", "#define J(a, b) a%:%:b", "#define S(x) %:x"})
    EXPECT_TRUE(refused_in_device_source(source)) << source;
  EXPECT_EQ(refused_in_device_source("float f(float x) { return x % 2 ? 1 : x; }"), std::nullopt);
}

}  // namespace
}  // namespace haqa
