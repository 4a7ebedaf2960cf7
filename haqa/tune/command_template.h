#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/space/search_space.h"
#include "haqa/worker/process.h"

namespace haqa {

/// A shell's command line with placeholders for a configuration:
///   {NAME}    the value of a parameter; where it has none, the word that holds the placeholder is left out
///   {file}    a JSON file with the configuration
///   {folder}  a folder of the trial's own, in which that file is
///   {{ and }} a brace; {}, ${ and a brace before a space are the shell's and stay as they are
class CommandTemplate {
 public:
  /// Throws UsageError for an unknown placeholder, one in backquotes, a here-document or $(( )), a quotation mark that
  /// is not closed, and one that may have no value but would leave its option behind.
  CommandTemplate(std::string_view text, const SearchSpace& space);

  /// What runs it in /bin/sh. Values come by environment variables, so that none is ever read as the shell's syntax.
  Command command(const Configuration& configuration, const std::filesystem::path& folder) const;

  /// The same with the values written out, for people to copy.
  std::string filled_in(const Configuration& configuration) const;

  /// Parameters without a placeholder; none where there is {file}.
  std::vector<std::string> unused() const;
  bool has_placeholders() const;
  bool names_folder() const { return names("folder") || names("file"); }

 private:
  friend class CommandParser;
  enum class Quote { none, single, twice };
  struct Piece {
    std::string text;  ///< or the placeholder's name
    bool placeholder = false;
    Quote quote = Quote::none;  ///< of a placeholder: what it stands in
    int word = -1;              ///< -1: between words
  };
  bool names(std::string_view placeholder) const;
  std::string expanded(const Configuration& configuration, const std::function<std::string(const Piece&)>& value) const;
  bool has_value(const std::string& placeholder, const Configuration& configuration) const;

  std::vector<std::string> parameters_;
  std::vector<Piece> pieces_;
  std::vector<int> outer_word_;  ///< for each word, the one around its $( ); -1: none
};

/// A value as a program's argument: texts as they are, all else as JSON.
std::string argument(const Json& value);
/// A text as one word of a shell's command line, in quotation marks where it needs them.
std::string shell_word(const std::string& text);

}  // namespace haqa
