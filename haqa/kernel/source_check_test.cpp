#include "haqa/kernel/source_check.h"

#include <gtest/gtest.h>

#include "haqa/base/file.h"
#include "haqa/kernel/kernel_spec.h"

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
       })
    EXPECT_TRUE(refused_in_source(source)) << source;
  EXPECT_TRUE(refused_in_source(std::string("int a;\0int b;", 13)));
  EXPECT_TRUE(refused_in_source(std::string(2 << 20, ' ')));
}

TEST(RefusedInDeviceSourceTest, RefusesWhatReachesTheDriver) {
  for (const char* source : {"#include \"x\"", "%:include \"x\"", "%: include <x>", "void f() { asm(\"trap;\"); }",
                             "#define J(a, b) a##b", "#define J(a, b) a%:%:b", "#define S(x) %:x"})
    EXPECT_TRUE(refused_in_device_source(source)) << source;
  EXPECT_EQ(refused_in_device_source("float f(float x) { return x % 2 ? 1 : x; }"), std::nullopt);
}

}  // namespace
}  // namespace haqa
