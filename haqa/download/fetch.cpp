#include "haqa/download/fetch.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <variant>
#include <vector>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/text.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kRowsOfAPage = 100;  // the most that the server gives
constexpr double kLongestWaitS = 60;
constexpr double kTellingWaitS = 5;
constexpr double kLongestAskedS = 600;
constexpr uint64_t kMostRows = 1'000'000'000;
constexpr int kMaxDepth = 64;  // nlohmann writes by recursion

struct Page {
  int64_t total = 0;               ///< rows of the data set
  std::vector<std::string> lines;  ///< its rows from the offset on
};

/// Why a request brought no page.
struct Problem {
  std::string what;
  bool passing = false;  ///< worth another try
  double wait_s = 0;     ///< what the server asked for
};
using Answer = std::variant<Page, Problem>;

Json parse(const std::string& text) {
  const auto shallow = [](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) throw Error("nests deeper than {} levels", kMaxDepth);
    return true;
  };
  try {
    return Json::parse(text, shallow, /*allow_exceptions=*/false);
  } catch (const Error&) {
    return Json::value_t::discarded;
  }
}

const Json& member(const Json& json, const char* key) {
  static const Json none;
  return json.is_object() && json.contains(key) ? json[key] : none;
}

bool is_count(const Json& value) {
  return value.is_number_unsigned() && value.get<uint64_t>() <= kMostRows;
}

/// The row as a line. Throws Error where the server left something out.
std::string line_of(const Json& entry, int64_t expected) {
  const Json &row = member(entry, "row"), &cut = member(entry, "truncated_cells");
  if (!row.is_object() || member(entry, "row_idx") != expected)
    throw Error("gives something else than row {} where that is due", expected);
  if (cut.is_array() && !cut.empty())
    throw Error("gives row {} with a field cut short ({})", expected, one_line(to_line(cut), 80));
  return to_line(row);
}

/// Throws Error where the page is not what was asked for.
Page page_of(const Json& body, int64_t offset) {
  const Json &rows = member(body, "rows"), &total = member(body, "num_rows_total");
  if (!rows.is_array() || !is_count(total)) throw Error("answers with something else than rows; correct the address");
  if (member(body, "partial") == true) throw Error("has only the first part of the data set");
  Page page{total.get<int64_t>(), {}};
  if (page.total == 0) throw Error("says that the data set has no rows");
  const auto given = static_cast<int64_t>(rows.size()), due = std::clamp<int64_t>(page.total - offset, 0, kRowsOfAPage);
  if (given > due || (given == 0 && due > 0))
    throw Error("gives {} rows from row {} on where {} of {} are due", given, offset, due, page.total);
  for (const Json& entry : rows) page.lines.push_back(line_of(entry, offset + static_cast<int64_t>(page.lines.size())));
  return page;
}

/// What is being fetched, as the first line of the unfinished file says it.
Json header_of(const DataSet& set, int64_t total) {
  return {{"repository", set.repository}, {"configuration", set.configuration}, {"split", set.split}, {"rows", total}};
}

/// FILE.unfinished: a header and the rows so far.
class Unfinished {
 public:
  Unfinished(const DataSet& set, const fs::path& file) : set_(set), file_(file), path_(file) {
    path_ += ".unfinished";
    lines_.emplace(path_);  // cuts an unfinished line; no other haqa writes there from now on
    if (read()) return;
    remove();  // it is of another data set, or new
    lines_.emplace(path_);
  }
  ~Unfinished() {
    if (total_ == 0) remove();  // nothing came
  }
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
  int64_t rows() const { return rows_; }
  /// 0: not known yet.
  int64_t total() const { return total_; }

  void append(const Page& page) {
    if (total_ == 0) lines_->append(to_line(header_of(set_, page.total)));
    total_ = page.total;
    if (page.lines.empty()) return;
    lines_->append(fmt::format("{}", fmt::join(page.lines, "\n")));  // at once: each append waits for the disk
    rows_ += static_cast<int64_t>(page.lines.size());
  }
  /// The rows without the header become the file.
  void finish() {
    PendingFile whole(file_);
    {
      std::ifstream in(path_, std::ios::binary);
      std::ofstream out(whole.path(), std::ios::binary);
      std::string header;
      std::getline(in, header);
      out << in.rdbuf() << std::flush;
      if (!in || !out || fs::file_size(whole.path()) + header.size() + 1 != fs::file_size(path_))
        throw Error("{}: cannot be written; free some space or choose another folder", file_.string());
    }
    whole.commit();
    remove();
  }
  void remove() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }

 private:
  /// False where it is not of this data set, or cannot be.
  bool read() {
    std::ifstream in(path_, std::ios::binary);
    std::string line;
    if (!std::getline(in, line) || in.eof()) return false;
    const Json header = parse(line), &total = member(header, "rows");
    if (!is_count(total) || header != header_of(set_, total.get<int64_t>())) return false;
    total_ = total.get<int64_t>();
    while (std::getline(in, line) && !in.eof()) ++rows_;
    if (rows_ <= total_) return true;
    rows_ = total_ = 0;
    return false;
  }

  const DataSet& set_;
  fs::path file_, path_;
  std::optional<LineFile> lines_;
  int64_t rows_ = 0, total_ = 0;
};

class Client {
 public:
  Client(const DataSet& set, const fs::path& file, const FetchOptions& options)
      : options_(options), address_(parse_http_address(options.server).shown) {
    by_hand_ = fmt::format(
        "by hand: the rows of huggingface.co/datasets/{} (configuration {}, split {}), one JSON object a line, "
        "into {}; docs/data.md shows how",
        set.repository, set.configuration, set.split, file.string());
    url_ = add_to_path(options.server, "/rows");
    url_ = add_query(url_, "dataset", set.repository);
    url_ = add_query(url_, "config", set.configuration);
    url_ = add_query(url_, "split", set.split);
  }

  /// Throws Error where there is no page and no sense in another try.
  Page page(int64_t offset) {
    const std::string url =
        add_query(add_query(url_, "offset", std::to_string(offset)), "length", std::to_string(kRowsOfAPage));
    for (int tried = 1;; ++tried) {
      Answer answer = ask(url, offset);
      if (Page* page = std::get_if<Page>(&answer)) return std::move(*page);
      const Problem& problem = std::get<Problem>(answer);
      if (!problem.passing || tried >= options_.tries)
        fail(problem.what + (tried > 1 ? fmt::format(" (tried {} times)", tried) : ""), offset);
      const double pause_s =
          problem.wait_s > 0 ? problem.wait_s : std::min(kLongestWaitS, options_.first_wait_s * std::pow(2, tried - 1));
      if (pause_s >= kTellingWaitS)
        options_.note(fmt::format("{} {}; trying again in {}", address_, problem.what, format_seconds(pause_s)));
      options_.wait(pause_s);
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what, int64_t rows) const {
    const char* kept = rows > 0 ? "the rows so far are kept, and the same command goes on; " : "";
    throw Error("{} {}; {}{}", address_, what, kept, by_hand_);
  }

  Answer ask(const std::string& url, int64_t offset) {
    const auto result = session_.exchange({.url = url, .timeout_s = options_.timeout_s});
    if (const auto* failure = std::get_if<HttpFailure>(&result)) return judge(*failure);
    answered_ = true;
    return judge(std::get<HttpResponse>(result), offset);
  }

  Problem judge(const HttpFailure& failure) const {
    using Kind = HttpFailure::Kind;
    const std::string detail = one_line(failure.detail, 200);
    switch (failure.kind) {
      case Kind::unreachable:  // at first there may be no network at all; later on it comes back
        return {fmt::format("cannot be reached ({})", detail), answered_};
      case Kind::timed_out:
        return {fmt::format("gives no complete answer within {}", format_seconds(options_.timeout_s)), true};
      case Kind::broken:
        return {fmt::format("broke off the connection ({})", detail), true};
      case Kind::too_large:
        return {fmt::format("answers with more than {} MiB", kMaxBodyBytes >> 20)};
      case Kind::insecure:
        return {fmt::format("gives no secure connection ({})", detail)};
      case Kind::not_http:
        break;
    }
    return {fmt::format("does not speak HTTP ({})", detail)};
  }

  static Answer judge(const HttpResponse& response, int64_t offset) {
    const Json body = parse(response.body);
    const Json& error = member(body, "error");
    const std::string said =
        fmt::format("HTTP {}{}", response.status,
                    error.is_string() ? ": " + one_line(error.get<std::string>(), 200) : std::string());
    const bool busy = response.status == 429 || response.status == 408 || response.status / 100 == 5;
    if (busy && response.status != 501)
      return Problem{fmt::format("is busy or failed ({})", said), true,
                     std::min(response.retry_after_s, kLongestAskedS)};
    if (response.status / 100 == 3) return Problem{fmt::format("redirects to {}", one_line(response.location, 200))};
    if (response.status != 200) return Problem{fmt::format("refuses the data set ({})", said)};
    if (body.is_discarded()) {
      const size_t first = response.body.find_first_not_of(" \t\r\n");
      const bool cut = first == std::string::npos || response.body[first] == '{';  // a proxy ended it without saying so
      return Problem{cut ? fmt::format("broke off its answer after {} bytes", response.body.size())
                         : "answers with something else than JSON; correct the address",
                     cut};
    }
    try {
      return page_of(body, offset);
    } catch (const Error& e) {
      return Problem{e.what()};
    }
  }

  const FetchOptions& options_;
  std::string address_, by_hand_, url_;
  HttpSession session_;  ///< for hundreds of pages one handshake does
  bool answered_ = false;
};

}  // namespace

int64_t fetch_rows(const DataSet& set, const fs::path& file, const FetchOptions& options) {
  Client client(set, file, options);
  Unfinished unfinished(set, file);
  while (unfinished.total() == 0 || unfinished.rows() < unfinished.total()) {
    const Page page = client.page(unfinished.rows());
    if (unfinished.total() > 0 && page.total != unfinished.total()) {
      unfinished.remove();
      throw Error(
          "{}: has {} rows now and had {} before: it changed while it was fetched; run the command again, which "
          "begins anew",
          set.repository, page.total, unfinished.total());
    }
    unfinished.append(page);
    options.progress(unfinished.rows(), unfinished.total());
  }
  unfinished.finish();
  return unfinished.rows();
}

}  // namespace haqa
