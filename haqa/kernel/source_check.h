#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/error.h"

namespace haqa {

/// What sources may include of the system's headers, "<stdint.h>".
std::span<const std::string_view> system_headers();
/// And besides: all headers of the kernels, by their paths in that folder.
std::vector<std::string> header_paths();

/// C++, or what OpenCL and CUDA make of C, whose digits nothing parts.
enum class SourceLanguage { cpp, device };

/// A line of a source as its preprocessor reads it: joined with those that continue it, a blank for blanks and
/// comments.
struct SourceLine {
  std::string text;                ///< as it stands, its texts too
  std::string code;                ///< a mark for each text and each character
  std::vector<std::string> words;  ///< its names
  std::vector<std::string> texts;  ///< between quotation marks, as written
};

/// Where compilers could part comments, texts and words in different ways; what() says by what.
class AmbiguousSource : public Error {
 public:
  explicit AmbiguousSource(const std::string& what) : Error("{}", what) {}
};

/// Throws AmbiguousSource.
std::vector<SourceLine> source_lines(std::string_view source, SourceLanguage language);

/// What a kernel's source may not hold: includes beyond the few that computing needs, and directives to the assembler
/// or the compiler that read files; nullopt where there is none of it. A compiler would show what it reads in its
/// messages.
std::optional<std::string> refused_in_source(std::string_view source);

/// The same of a source for a device, whose driver is not confined: no includes at all, as what it needs stands before
/// it, no assembler, no pasted tokens (which could spell either).
std::optional<std::string> refused_in_device_source(std::string_view source);

}  // namespace haqa
