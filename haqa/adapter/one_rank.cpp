#include "haqa/adapter/one_rank.h"

#include <algorithm>
#include <utility>

#include "haqa/base/error.h"

namespace haqa {
namespace {

/// B: [out, from] to [out, to].
std::vector<float> widened(const std::vector<float>& b, size_t from, size_t to) {
  std::vector<float> wide(b.size() / from * to);
  for (size_t row = 0; row < b.size() / from; ++row)
    std::copy_n(b.begin() + static_cast<std::ptrdiff_t>(row * from), from,
                wide.begin() + static_cast<std::ptrdiff_t>(row * to));
  return wide;
}

LoraPair with_rank(ScaledPair from, size_t rank, double scale) {
  LoraPair pair = std::move(from.pair);
  const auto own = static_cast<size_t>(from.rank);
  if (own != rank) {
    pair.a.resize(pair.a.size() / own * rank);  // A: [rank, in]; the rows of zeros come last
    pair.b = widened(pair.b, own, rank);
  }
  if (from.scale != scale)
    for (float& value : pair.b) value = static_cast<float>(value * (from.scale / scale));
  return pair;
}

}  // namespace

LoraAdapter with_one_rank(std::vector<ScaledPair> pairs, int64_t highest, const std::filesystem::path& file) {
  if (pairs.empty()) throw Error("{}: adapts no tensor; name an adapter that was trained", file.string());
  int64_t least = pairs[0].rank, most = pairs[0].rank;
  for (const ScaledPair& pair : pairs) least = std::min(least, pair.rank), most = std::max(most, pair.rank);
  if (least < 1 || most > highest)
    throw Error("{}: has ranks from {} to {}; they must be from 1 to the model's width, {}", file.string(), least, most,
                highest);
  constexpr int64_t kFarApart = 64;
  if (most / least > kFarApart)
    throw Error("{}: has ranks from {} to {}, which differ too much; name an adapter whose ranks are closer",
                file.string(), least, most);
  LoraAdapter adapter;
  adapter.rank = static_cast<int>(most);
  adapter.file = file;
  const double scale = pairs[0].scale;
  adapter.alpha = static_cast<float>(scale * static_cast<double>(most));
  for (ScaledPair& pair : pairs) adapter.pairs.push_back(with_rank(std::move(pair), static_cast<size_t>(most), scale));
  return adapter;
}

}  // namespace haqa
