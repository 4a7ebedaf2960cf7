#include "haqa/kernel/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>

#include "haqa/kernel/reference.h"

namespace haqa {
namespace {

/// Of those that are looked at, where there are more.
constexpr int64_t kLeastRows = 16;

uint32_t word_at(const std::byte* from) {
  uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

bool all_poison(const std::byte* from, const std::byte* end) {
  for (; from < end; from += 4)
    if (word_at(from) != kPoison) return false;
  return true;
}

struct Rows {
  const TensorShape& shape;
  const std::byte* output;
  const std::byte* at(int64_t row) const { return output + shape.offset_of(row); }
};

/// Nothing beside the rows was touched.
void check_margins(const Rows& rows, const std::string& where) {
  const TensorShape& s = rows.shape;
  const auto stray = [&](const std::string& place) {
    throw KernelFault(KernelFaultKind::out_of_bounds, fmt::format("{}: it wrote {}", where, place));
  };
  if (!all_poison(rows.output - kMargin, rows.output)) stray("before its output");
  for (int64_t r = 0; r < s.rows(); ++r) {
    const std::byte* end = rows.at(r) + s.row;
    const bool is_last = r + 1 == s.rows();
    if (!all_poison(end, is_last ? end + kMargin : rows.at(r + 1)))
      stray(is_last ? "behind its output" : fmt::format("behind row {} of its output", r));
  }
}

void check_written(const Rows& rows, const std::string& where) {
  int64_t left = 0;
  std::optional<std::pair<int64_t, int64_t>> first;
  for (int64_t r = 0; r < rows.shape.rows(); ++r)
    for (int64_t i = 0; i < rows.shape.ne[0]; ++i)
      if (word_at(rows.at(r) + 4 * i) == kPoison) {
        ++left;
        if (!first) first = {r, i};
      }
  if (left > 0)
    throw KernelFault(KernelFaultKind::not_written,
                      fmt::format("{}: it left {} of {} elements unwritten, the first at row {}, column {}", where,
                                  left, rows.shape.rows() * rows.shape.ne[0], first->first, first->second));
}

/// `most` of 0 to below n: all of them, or the ends and a random choice, which is never empty.
std::vector<int64_t> chosen(int64_t n, int64_t most, FastRandom& random) {
  most = std::max<int64_t>(4, most);
  if (n <= most) {
    std::vector<int64_t> all(static_cast<size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  std::set<int64_t> some = {0, n - 1};
  while (static_cast<int64_t>(some.size()) < most)
    some.insert(static_cast<int64_t>(random.below(static_cast<uint64_t>(n))));
  return {some.begin(), some.end()};
}

/// Counts deviations and keeps the worst.
class Deviations {
 public:
  Deviations(const Tolerance& tolerance, const std::string& where) : tolerance_(tolerance), where_(where) {}
  void compare(int64_t row, int64_t column, double is, const Expected& expected) {
    ++checked_;
    const double allowed =
        tolerance_.absolute + tolerance_.relative * std::abs(expected.value) + tolerance_.norm * expected.scale;
    const double off = std::abs(is - expected.value);
    if (off <= allowed || is == expected.value) return;  // NaN is never within
    ++wrong_;
    const double excess = std::isnan(off) ? HUGE_VAL : off / allowed;
    if (excess <= worst_) return;
    worst_ = excess;
    text_ = fmt::format("row {}, column {} is {:.7g} and should be {:.7g} within {:.2g}", row, column, is,
                        expected.value, allowed);
  }
  void finish() const {
    if (wrong_ > 0)
      throw KernelFault(
          KernelFaultKind::wrong_result,
          fmt::format("{}: {} of {} elements looked at are wrong; the worst: {}", where_, wrong_, checked_, text_));
  }

 private:
  const Tolerance tolerance_;
  const std::string& where_;
  int64_t checked_ = 0, wrong_ = 0;
  double worst_ = -1;
  std::string text_;
};

}  // namespace

void poison(std::byte* from, uint64_t bytes) {
  std::fill_n(reinterpret_cast<uint32_t*>(from), bytes / 4, kPoison);
}

void check_launch(const KernelSpec& spec, const CheckedLaunch& launch, const CheckEffort& effort, FastRandom& random) {
  const TensorShape& shape = launch.shapes.back();
  const Rows rows{shape, launch.output};
  check_margins(rows, launch.where);
  check_written(rows, launch.where);
  const auto reference = make_reference(spec, launch.shapes, launch.inputs);
  const int64_t width = shape.ne[0], depth = launch.shapes[0].ne[0], row_products = reference->row_products();
  const int64_t elements = reference->is_product() ? std::max<int64_t>(16, effort.products / depth) : effort.elements;
  // Some of many rows: of a product, as its columns share the weights; of others, as a kernel could leave out rows.
  const int64_t most_rows = reference->is_product() ? elements / 256
                            : row_products > 0      ? std::max(kLeastRows, effort.products / row_products)
                                                    : std::max(kLeastRows, elements / std::max<int64_t>(1, width));
  const std::vector<int64_t> picked = chosen(shape.rows(), most_rows, random);
  const int64_t columns =
      row_products > 0 ? width : std::min(width, std::max<int64_t>(1, elements / static_cast<int64_t>(picked.size())));
  const auto weights =
      std::find_if(spec.arguments.begin(), spec.arguments.end(), [](const auto& a) { return a.is_weights; });
  const auto typed = static_cast<size_t>(weights == spec.arguments.end() ? 0 : weights - spec.arguments.begin());
  Tolerance tolerance = spec.tolerance_of(launch.shapes[typed].type);
  tolerance.norm = launch.norm.value_or(tolerance.norm);
  Deviations deviations(tolerance, launch.where);
  for (const int64_t r : picked) {
    reference->begin_row(r);
    for (const int64_t i : chosen(width, columns, random)) {
      float is;
      std::memcpy(&is, rows.at(r) + 4 * i, sizeof is);
      deviations.compare(r, i, is, reference->at(i));
    }
  }
  deviations.finish();
}

}  // namespace haqa
