#include "haqa/sampler/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"

namespace haqa {
namespace {

using testing::HasSubstr;

std::string fault(const std::string& name) {
  try {
    make_sampler(name, 1);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Registry, MakesASamplerOfEachName) {
  for (const std::string& name : sampler_names()) EXPECT_NE(make_sampler(name, 1), nullptr) << name;
}

TEST(Registry, SaysWhatIsWrongWithAName) {
  EXPECT_THAT(fault("rnadom"), HasSubstr("sampler rnadom: there is none such; use one of "));
  EXPECT_THAT(fault(""), HasSubstr("random"));
  EXPECT_THAT(fault("human"), HasSubstr("human:FILE"));
  EXPECT_THAT(fault("human:"), HasSubstr("human:FILE"));
  EXPECT_THAT(fault("human:no/such/file"), HasSubstr("no/such/file"));
}

TEST(Registry, TheDefaultsAreProposedAtEveryRound) {
  Track track;
  track.space = SearchSpace({real_parameter("x", 0, 1, 0.25, "")});
  const auto sampler = make_sampler("default", 1);
  std::vector<Trial> trials;
  for (int i = 0; i < 3; ++i) {
    const Proposal p = sampler->ask(track, trials, 3 - i);
    EXPECT_EQ(p.configuration, track.space.defaults());
    EXPECT_EQ(p.proposed_by, "default");
    trials.push_back(running_trial(i, p));
  }
}

}  // namespace
}  // namespace haqa
