#include <fmt/format.h>

#include <algorithm>

#include "haqa/report/escape.h"
#include "haqa/report/findings.h"
#include "haqa/report/finetune_report.h"
#include "haqa/report/report.h"
#include "haqa/report/served_kernels.h"
#include "haqa/report/trade_offs.h"

namespace haqa {
namespace {

constexpr size_t kWidestCell = 90;

/// Characters of UTF-8, which is what a terminal aligns by.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, size_t to, char align) {
  const std::string space(to - std::min(to, width(text)), ' ');
  return align == 'r' ? space + text : text + space;
}

std::string line(const std::vector<std::string>& cells, const std::vector<size_t>& widths, const std::string& align) {
  std::string out;
  for (size_t i = 0; i < cells.size(); ++i) out += "  " + padded(cells[i], widths[i], align[i]);
  return out.substr(0, out.find_last_not_of(' ') + 1) + "\n";
}

std::string sentence_of(const Part& text) {
  return text.text().empty() ? "" : "  " + one_line(text.text(), 400) + "\n";
}

}  // namespace

std::string text_table(const std::string& title, Table table) {
  if (table.rows.empty() || table.head.empty()) return "";
  std::vector<size_t> widths;
  for (const std::string& name : table.head) widths.push_back(width(name));
  for (auto& row : table.rows)
    for (size_t i = 0; i < row.size(); ++i) {
      row[i] = one_line(row[i], kWidestCell);
      widths[i] = std::max(widths[i], width(row[i]));
    }
  std::string out = "\n" + title + "\n" + line(table.head, widths, table.align);
  for (const auto& row : table.rows) out += line(row, widths, table.align);
  return out;
}

std::string text_memory(const Json& summary) {
  return text_table("Memory", memory_table(Part(summary)));
}

std::string text_report(const Json& json) {
  const Part summary(json);
  const std::vector<Round> rounds = read_rounds(summary);
  std::string out;
  for (const std::string& sentence : answer(summary).sentences) out += one_line(sentence, 400) + "\n";
  for (const std::string& sentence : finetune_sentences(summary)) out += one_line(sentence, 400) + "\n";
  const std::string command = summary["bundle"]["command"].text();
  if (!command.empty()) out += "\nRun it, in the bundle's folder\n  " + one_line(command, 1000) + "\n";
  out += text_memory(json);
  out += text_table("Bit widths", bit_width_table(summary)) + sentence_of(summary["decision"]["why"]);
  if (const Part finetune = summary["finetune"]; !finetune.is_missing()) {
    out += text_table("Rounds of fine-tuning: accuracy on the questions to choose by", finetune_rounds_table(finetune));
    out += text_table("Accuracy on held-out questions", held_out_table(finetune));
  }
  out += text_table("Rounds: speed-up over llama.cpp's defaults, measured in turn", rounds_table(summary, rounds));
  out += text_table("Kernels in the model: its speed-up over the kernels that serve so far, measured in turn",
                    served_kernels_table(summary["kernels"]));
  for (const std::string& sentence : served_kernels_answer(summary["kernels"]))
    out += "  " + one_line(sentence, 400) + "\n";
  out += text_table("Accuracy, speed against the widest (of the verified round anew), and memory",
                    trade_off_table(trade_offs(summary)));
  out += text_table("Failures", failures_table(rounds)) + text_table("The agent's faults", agent_events_table(summary));
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

}  // namespace haqa
