#include "haqa/sampler/default_sampler.h"

namespace haqa {

Proposal DefaultSampler::ask(const Track& track, std::span<const Trial>, int) {
  return {track.space.defaults(), "default", "The defaults again: nothing is tuned.", {}};
}

}  // namespace haqa
