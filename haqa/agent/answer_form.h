#pragma once
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// A configuration in the words of a track's answers (Track::answer_names): their keys first, in their order, then the
/// other parameters by their own names.
Json to_answer(const Track& track, const Configuration& configuration);

/// The same the other way: a configuration that the track's space has yet to check, or what is wrong with the form. A
/// parameter may stand by its own name too, which counts where both are there. `code`: fenced blocks of the answer, for
/// texts that are said to be changed and stand nowhere else; those used are taken out.
struct AnswerFaults {
  std::vector<std::string> faults;
};
std::variant<Configuration, AnswerFaults> from_answer(const Track& track, const Json& answer,
                                                      std::vector<std::string>& code);

/// JSON schema of an answer, for providers that can constrain their output.
Json answer_schema(const Track& track);
/// A sentence for each key that is no parameter's own name; empty without any.
std::string describe_answer(const Track& track);

/// Whether `mentions(name)` is true of a parameter or a key of the track.
template <typename Mentions>
bool mentions_any(const Track& track, const Mentions& mentions) {
  for (const Parameter& p : track.space.parameters())
    if (mentions(p.name)) return true;
  for (const AnswerName& a : track.answer_names)
    if (mentions(a.key) || (!a.flag.empty() && mentions(a.flag))) return true;
  return false;
}

/// An answer without its fenced blocks of code.
struct Unfenced {
  struct Block {
    std::string code;
    size_t at = 0;       ///< in `text`, where it was
    bool closed = true;  ///< false: cut off
  };
  std::string text;
  std::vector<Block> blocks;
};
/// Takes the blocks out of which `is_code(content)` is true.
Unfenced without_code(std::string_view answer, const std::function<bool(std::string_view)>& is_code);

}  // namespace haqa
