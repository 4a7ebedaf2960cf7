#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/report/part.h"

namespace haqa {

/// What the page, the terminal and the suggestions have in common: figures in words and tables, nothing escaped yet.

/// Three significant digits or more, without an exponent from 0.0001 to a million: "0.123", "14.2", "1234".
std::string figure(double value);
std::string ratio(double value);  ///< "1.234"
/// "14.2 tokens/s" and the like; empty where there is no value.
std::string figure(std::optional<double> value, std::string_view unit);
std::string amount(std::optional<uint64_t> bytes);  ///< as format_bytes(); empty where there is no value
/// "+1.23 %" of a ratio of 1.0123.
std::string percent_change(double ratio);
std::string joined(const std::vector<std::string>& texts, std::string_view between = ", ");

struct Interval {
  double median = 0, low = 0, high = 0;
  bool holds(double value) const { return low <= value && value <= high; }
};
std::string text_of(const Interval& interval);  ///< "1.234 (1.150 to 1.310)"

struct Round {
  int number = 0;  ///< from 1
  Part configuration;
  bool failed = false;
  std::string reason, message;  ///< of a failure
  std::optional<double> value;
  std::optional<Interval> interval;  ///< of the speed-up over the defaults, measured in turn with them
  int pairs = 0;                     ///< that it comes from; fewer than 6 give no interval of 95 %
  std::optional<double> tokens_per_s;
  std::string changes;  ///< against round 1, the defaults
  std::string proposed_by, thought;
  Part quality;
};
std::vector<Round> read_rounds(const Part& summary);
/// The round of the best value; nullptr where none has one.
const Round* best_round(const std::vector<Round>& rounds, bool maximize = true);
bool maximizes(const Part& summary);

/// Parameters of `to` that `from` sets otherwise: "threads 8, ubatch 128".
std::string changes(const Part& from, const Part& to);

enum class Verdict { nothing, predicted, unverified, no_better, confirmed };

/// Round 1, the defaults against themselves, or the verification, where it spans so much that no figure of the run is
/// to be relied upon.
std::optional<Interval> disturbance(const Part& summary, const std::vector<Round>& rounds);

/// What the run came to.
struct Answer {
  Verdict verdict = Verdict::nothing;
  std::string format;                  ///< "int4 (Q4_0)"
  std::optional<double> tokens_per_s;  ///< of a whole request; predicted, of generation alone, where not measured
  std::optional<Interval> speedup;     ///< the fresh one of the verification
  std::vector<std::string> sentences;  ///< two, and a third where the machine was disturbed
};
Answer answer(const Part& summary);
std::string_view text_of(Verdict verdict);
/// The second of answer()'s sentences: what tuning came to. Needs no more of a summary than its trials and
/// verification.
std::string verdict_sentence(const Part& summary);

/// Measurements of what the bundle runs: {"tokens_per_s","generate_tokens_per_s","peak_bytes",...}, where it was
/// measured.
Part measured(const Part& summary);
/// Quality of what the bundle runs.
Part quality(const Part& summary);
/// The element of `list` (memory_plan.rows, bit_widths) for the bit width that was decided.
Part decided_row(const Part& summary, const Part& list);
/// Whether `row`, of such a list, is of the bit width that was decided.
bool is_chosen(const Part& summary, const Part& row);
/// "int4 (Q4_0)" of anything with bit_width and gguf_type.
std::string format_name(const Part& part);
/// "perplexity +1.23 %, ..." ; empty where there is none.
std::string quality_text(const Part& quality);

/// A column without a single value is left out when a table is shown.
struct Table {
  std::vector<std::string> head;
  std::string align;  ///< 'l' or 'r' for each column
  std::vector<std::vector<std::string>> rows;
  /// Without its empty columns; without any row where only the first column would remain.
  Table shown() const;
};
/// For a terminal, under its title; empty where it has no row.
std::string text_table(const std::string& title, Table table);
Table memory_table(const Part& summary);
Table bit_width_table(const Part& summary);
Table rounds_table(const Part& summary, const std::vector<Round>& rounds);
Table failures_table(const std::vector<Round>& rounds);
Table agent_events_table(const Part& summary);
using Facts = std::vector<std::pair<std::string, std::string>>;
/// Without those that have no value.
Facts device_facts(const Part& summary);
Facts agent_facts(const Part& summary);

}  // namespace haqa
