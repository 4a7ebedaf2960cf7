#include "haqa/sampler/untried.h"

namespace haqa {

std::set<std::string> tried_hashes(const SearchSpace& space, std::span<const Trial> trials) {
  std::set<std::string> hashes;
  for (const Trial& t : trials) hashes.insert(space.hash(t.configuration));
  return hashes;
}

Configuration untried(const SearchSpace& space, std::span<const Trial> trials,
                      const std::function<Configuration()>& draw) {
  const std::set<std::string> tried = tried_hashes(space, trials);
  Configuration drawn = draw();
  int same = 1;
  for (int i = 1; i < 1000 && same < 100 && tried.contains(space.hash(drawn)); ++i) {
    Configuration next = draw();
    same = next == drawn ? same + 1 : 1;
    drawn = std::move(next);
  }
  return drawn;
}

}  // namespace haqa
