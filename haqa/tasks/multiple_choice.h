#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "haqa/tasks/task.h"

namespace haqa {

/// How a model takes a request's continuation.
struct Score {
  double log_likelihood = 0;  ///< natural logarithm of its probability after the context, summed over its tokens
  bool greedy = false;        ///< whether each of its tokens is the model's likeliest
};

/// A model that can be asked: a GGUF through llama.cpp, or the model in training.
class Scorer {
 public:
  virtual ~Scorer() = default;
  /// One score for each request, in their order. It sees all requests at once and may answer them in any order.
  /// progress: called with the share done, 0 to 1; may be empty.
  virtual std::vector<Score> score(std::span<const Request> requests, const std::function<void(double)>& progress) = 0;
};

/// A share of right answers and its standard error: sqrt(p (1 - p) / (n - 1)), the standard error of a mean from the
/// sample's variance. NaN for a single item, where lm-eval says "N/A".
struct Accuracy {
  double value = 0, error = 0;
};
/// Of a share of n.
double standard_error(double share, double n);

struct ItemResult {
  int doc_id = 0, gold = -1;
  int predicted = 0;       ///< index of the choice with the largest log-likelihood, the first of equals
  int predicted_norm = 0;  ///< the same of log-likelihoods divided by the choices' lengths in characters
  std::vector<Score> scores;
};

struct TaskResult {
  std::string task;
  Accuracy acc;
  std::optional<Accuracy> acc_norm;  ///< where the task has it
  std::vector<ItemResult> items;
  /// acc_norm where the task has it, else acc: what is usually quoted.
  const Accuracy& headline() const { return acc_norm ? *acc_norm : acc; }
};

/// scores: those of all requests of all items, one after another.
TaskResult grade(const EvaluationTask& task, std::span<const Item> items, std::span<const Score> scores);

/// Means over the tasks, each of equal weight, with the standard errors of independent means. Source: lm-eval 0.4.13,
/// api/metrics.py, unweighted_mean_stderr().
struct MeanAccuracy {
  Accuracy acc;
  Accuracy headline;  ///< of acc_norm where a task has it, else acc
};
MeanAccuracy mean_accuracy(std::span<const TaskResult> results);

}  // namespace haqa
