#include "haqa/tasks/multiple_choice.h"

#include <algorithm>
#include <cmath>

#include "haqa/base/error.h"

namespace haqa {
namespace {

/// numpy.argmax: the first of the largest, and NaN, should there be one, before all numbers.
int arg_max(std::span<const double> values) {
  const auto less = [](double a, double b) { return !std::isnan(a) && (std::isnan(b) || a < b); };
  return static_cast<int>(std::max_element(values.begin(), values.end(), less) - values.begin());
}

ItemResult grade_item(const Item& item, std::span<const Score> scores) {
  std::vector<double> plain, norm;
  for (size_t i = 0; i < scores.size(); ++i) {
    plain.push_back(scores[i].log_likelihood);
    norm.push_back(scores[i].log_likelihood / item.lengths[i]);  // an empty choice yields -infinity, as in lm-eval
  }
  return {item.doc_id, item.gold, arg_max(plain), arg_max(norm), {scores.begin(), scores.end()}};
}

template <typename Predicted>
Accuracy accuracy(std::span<const ItemResult> items, const Predicted& predicted) {
  const double n = static_cast<double>(items.size());
  const auto right = std::count_if(items.begin(), items.end(), [&](const auto& i) { return predicted(i) == i.gold; });
  const double p = static_cast<double>(right) / n;
  return {p, standard_error(p, n)};
}

/// choose(result): which of a task's accuracies.
template <typename Choose>
Accuracy mean(std::span<const TaskResult> results, const Choose& choose) {
  Accuracy sum;
  for (const TaskResult& result : results) {
    sum.value += choose(result).value;
    sum.error += choose(result).error * choose(result).error;
  }
  const double n = static_cast<double>(results.size());
  return {sum.value / n, std::sqrt(sum.error) / n};
}

}  // namespace

double standard_error(double share, double n) {
  return std::sqrt(share * (1 - share) / (n - 1));
}

TaskResult grade(const EvaluationTask& task, std::span<const Item> items, std::span<const Score> scores) {
  TaskResult result;
  result.task = task.name;
  for (const Item& item : items) {
    const size_t n = item.requests.size();
    if (scores.size() < n) throw Error("{}: fewer scores than requests", task.name);
    result.items.push_back(grade_item(item, scores.first(n)));
    scores = scores.subspan(n);
  }
  if (!scores.empty()) throw Error("{}: more scores than requests", task.name);
  result.acc = accuracy(result.items, [](const ItemResult& i) { return i.predicted; });
  if (task.acc_norm) result.acc_norm = accuracy(result.items, [](const ItemResult& i) { return i.predicted_norm; });
  return result;
}

MeanAccuracy mean_accuracy(std::span<const TaskResult> results) {
  return {mean(results, [](const TaskResult& r) { return r.acc; }),
          mean(results, [](const TaskResult& r) { return r.headline(); })};
}

}  // namespace haqa
