#include "haqa/sampler/random.h"

#include "haqa/sampler/untried.h"

namespace haqa {

Proposal RandomSampler::ask(const Track& track, std::span<const Trial> trials, int) {
  return {untried(track.space, trials, [&] { return track.space.sample(random_); }), "random",
          "A random valid configuration."};
}

}  // namespace haqa
