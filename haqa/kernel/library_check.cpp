#include <elf.h>

#include <cstring>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/kernel/compiler.h"

namespace haqa {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kChoosesVersion = R_X86_64_IRELATIVE;
#elif defined(__aarch64__)
constexpr uint32_t kChoosesVersion = R_AARCH64_IRELATIVE;
#else
constexpr uint32_t kChoosesVersion = 0xffffffff;
#endif

/// A structure at a place in the file, which may say anything.
template <typename T>
T at(std::string_view file, uint64_t offset, const std::string& name) {
  T value;
  if (offset > file.size() || file.size() - offset < sizeof value) throw Error("{}: is no whole library", name);
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

Elf64_Ehdr header_of(std::string_view file, const std::string& name) {
  const auto header = at<Elf64_Ehdr>(file, 0, name);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
    throw Error("{}: is no library of this machine", name);
  return header;
}

}  // namespace

std::vector<std::string> functions_of(const std::filesystem::path& library) {
  const std::string file = read_file(library), name = library.filename().string();
  const auto header = header_of(file, name);
  const auto section = [&](uint64_t i) { return at<Elf64_Shdr>(file, header.e_shoff + i * header.e_shentsize, name); };
  std::vector<std::string> functions;
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    const auto symbols = section(i);
    if (symbols.sh_type != SHT_DYNSYM) continue;
    const auto names = section(symbols.sh_link);
    for (uint64_t k = 0; k < symbols.sh_size / sizeof(Elf64_Sym); ++k) {
      const auto symbol = at<Elf64_Sym>(file, symbols.sh_offset + k * sizeof(Elf64_Sym), name);
      const uint64_t where = names.sh_offset + symbol.st_name;
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF || where >= file.size()) continue;
      functions.emplace_back(file.c_str() + where);
    }
  }
  return functions;
}

std::optional<std::string> runs_when_loaded(const std::filesystem::path& library) {
  const std::string file = read_file(library), name = library.filename().string();
  const auto header = header_of(file, name);
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    const auto segment = at<Elf64_Phdr>(file, header.e_phoff + i * header.e_phentsize, name);
    if (segment.p_type != PT_DYNAMIC) continue;
    for (uint64_t k = 0; k < segment.p_filesz / sizeof(Elf64_Dyn); ++k) {
      const auto entry = at<Elf64_Dyn>(file, segment.p_offset + k * sizeof(Elf64_Dyn), name);
      for (const int64_t tag : {int64_t{DT_INIT}, int64_t{DT_INIT_ARRAY}, int64_t{DT_PREINIT_ARRAY}, int64_t{DT_FINI},
                                int64_t{DT_FINI_ARRAY}})
        if (entry.d_tag == tag) return "code that runs when it is loaded";
    }
  }
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    const auto section = at<Elf64_Shdr>(file, header.e_shoff + i * header.e_shentsize, name);
    if (section.sh_type == SHT_DYNSYM || section.sh_type == SHT_SYMTAB) {
      for (uint64_t k = 0; k < section.sh_size / sizeof(Elf64_Sym); ++k)
        if (ELF64_ST_TYPE(at<Elf64_Sym>(file, section.sh_offset + k * sizeof(Elf64_Sym), name).st_info) ==
            STT_GNU_IFUNC)
          return "functions whose version is chosen when they are looked up";
    }
    if (section.sh_type != SHT_RELA) continue;
    for (uint64_t k = 0; k < section.sh_size / sizeof(Elf64_Rela); ++k)
      if (ELF64_R_TYPE(at<Elf64_Rela>(file, section.sh_offset + k * sizeof(Elf64_Rela), name).r_info) ==
          kChoosesVersion)
        return "functions whose version is chosen when it is loaded";
  }
  return std::nullopt;
}

}  // namespace haqa
