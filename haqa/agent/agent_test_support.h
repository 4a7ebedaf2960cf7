// What the tests of the agent share.
#pragma once
#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "haqa/agent/prompt.h"

namespace haqa {

/// Three parameters of the run-time space, without constraints.
inline Track track() {
  Track t;
  t.name = "runtime";
  t.value_name = "speedup";
  t.brief = "BRIEF";
  t.space = SearchSpace({integer_parameter("threads", 1, 8, 4, "Threads."),
                         categorical_parameter("flash_attention", {"auto", "on"}, "auto", "Attention."),
                         integer_parameter("ubatch", 32, 512, 512, "Micro-batch.", true)});
  return t;
}

/// The paper's form of a kernel's answers: lists, names with blanks, code; and a parameter of its own name.
inline Track kernel_track() {
  Track t;
  t.name = "kernel";
  t.value_name = "ratio";
  t.brief = "BRIEF";
  t.space = SearchSpace({integer_parameter("block_x", 1, 256, 32, "Block."), integer_parameter("block_y", 1, 64, 1, ""),
                         integer_parameter("tiling_size", 1, 64, 8, "Tile."), boolean_parameter("prefetch", false, ""),
                         text_parameter("code", 1000, "The source.")});
  t.answer_names = {{"blockdim", {"block_x", "block_y", ""}, ""},
                    {"tiling size", {"tiling_size"}, ""},
                    {"code", {"code"}, "code changed"}};
  return t;
}

/// `n` complete trials, each another configuration; the third is the best.
inline std::vector<Trial> trials_of(int n) {
  std::vector<Trial> trials(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    Trial& t = trials[static_cast<size_t>(i)];
    t.number = i;
    t.configuration = {{"threads", 4}, {"flash_attention", "auto"}, {"ubatch", 512 - i}};
    t.value = i == 2 ? 1.5 : 1.0 + 0.001 * i;
    t.thought = fmt::format("thought {}", i);
  }
  return trials;
}

/// Those that ship.
inline Prompts prompts() {
  return Prompts(std::filesystem::path(HAQA_SOURCE_DIR) / "data/prompts");
}

}  // namespace haqa
