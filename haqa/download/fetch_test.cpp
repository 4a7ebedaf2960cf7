#include "haqa/download/fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/http/fake_server.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const DataSet kSet{"toy", "some one/toy", "main", "test", 0, ""};

/// Of every kind that the tasks have: text, label, list, mapping.
Json row(int64_t i) {
  return {{"text", "row " + std::to_string(i) + " \u00fc \"\n"},
          {"label", i % 2},
          {"choices", {{"text", {"a", "b"}}, {"label", {"A", "B"}}}},
          {"a", nullptr}};
}

std::string lines(int64_t n) {
  std::string all;
  for (int64_t i = 0; i < n; ++i) all += row(i).dump() + "\n";
  return all;
}

/// The value of a query's parameter, as it was sent.
std::string parameter(const std::string& head, const std::string& name) {
  const size_t begin = head.find(name + "=");
  if (begin == std::string::npos) return "";
  const size_t from = begin + name.size() + 1;
  return head.substr(from, head.find_first_of("& ", from) - from);
}

/// What the public server answers. Source: https://huggingface.co/docs/dataset-viewer/rows
Json page(int64_t offset, int64_t length, int64_t total) {
  Json rows = Json::array();
  for (int64_t i = offset; i < std::min(offset + length, total); ++i)
    rows.push_back({{"row_idx", i}, {"row", row(i)}, {"truncated_cells", Json::array()}});
  return {{"features", {{{"feature_idx", 0}, {"name", "text"}, {"type", {{"dtype", "string"}, {"_type", "Value"}}}}}},
          {"rows", rows},
          {"num_rows_total", total},
          {"num_rows_per_page", 100},
          {"partial", false}};
}

/// A server with `total` rows; `spoil` may answer in its place (and returns true then), by the number of the request.
class Rows {
 public:
  using Spoil = std::function<bool(int request, Json& body, const FakeServer::Connection&)>;
  explicit Rows(
      int64_t total, Spoil spoil = [](int, Json&, const FakeServer::Connection&) { return false; })
      : server_([this, total, spoil](const FakeServer::Request& request, const FakeServer::Connection& c) {
          Json body =
              page(std::stoll(parameter(request.head, "offset")), std::stoll(parameter(request.head, "length")), total);
          if (!spoil(++requests_, body, c)) c.send(FakeServer::reply(200, body.dump()));
        }) {}

  std::string url() const { return server_.url(); }
  std::vector<std::string> offsets() const {
    std::vector<std::string> offsets;
    for (const auto& request : server_.requests()) offsets.push_back(parameter(request.head, "offset"));
    return offsets;
  }
  std::string head() const { return server_.requests().at(0).head; }

 private:
  int requests_ = 0;
  FakeServer server_;
};

class Fetch : public testing::Test {
 protected:
  int64_t fetch(const std::string& server, const DataSet& set = kSet) {
    FetchOptions options;
    options.server = server;
    options.tries = 4;
    options.timeout_s = 10;
    options.wait = [this](double s) { waits_.push_back(s); };
    options.note = [this](const std::string& line) { notes_.push_back(line); };
    options.progress = [this](int64_t done, int64_t total) { progress_.emplace_back(done, total); };
    return fetch_rows(set, file_, options);
  }
  std::string error_of(const std::string& server) {
    try {
      fetch(server);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  /// The rows of a first part, as an interrupted fetch leaves them.
  void leave(const std::string& header, int64_t rows, const std::string& end = "") const {
    std::ofstream(unfinished_) << header << "\n" << lines(rows) << end;
  }

  const TemporaryFolder folder_;
  const fs::path file_ = folder_ / "toy.jsonl", unfinished_ = folder_ / "toy.jsonl.unfinished";
  std::vector<double> waits_;
  std::vector<std::string> notes_;
  std::vector<std::pair<int64_t, int64_t>> progress_;
};

constexpr const char* kHeader = R"({"repository":"some one/toy","configuration":"main","split":"test","rows":250})";

TEST_F(Fetch, WritesEveryRowAsALine) {
  for (const int64_t total : {1, 99, 100, 101, 250, 300}) {
    const Rows server(total);
    progress_.clear();
    EXPECT_EQ(fetch(server.url()), total);
    EXPECT_EQ(read_file(file_), lines(total));
    EXPECT_EQ(server.offsets().size(), static_cast<size_t>((total + 99) / 100));
    EXPECT_EQ(progress_.back(), std::pair(total, total));
    EXPECT_FALSE(fs::exists(unfinished_));
    EXPECT_THAT(server.head(),
                HasSubstr("GET /v1/rows?dataset=some+one%2ftoy&config=main&split=test&offset=0&length=100"));
  }
}

TEST_F(Fetch, TriesAgainWhatMayPass) {
  const Rows server(250, [](int request, Json& body, const FakeServer::Connection& c) {
    switch (request) {
      case 1:
        return c.send(FakeServer::reply(429, "{\"error\": \"slow down\"}", "application/json", "Retry-After: 7\r\n"));
      case 2:
        return c.send(FakeServer::reply(500, "{\"error\": \"busy\"}"));
      case 4:
        c.reset();
        return true;
      case 5: {
        const std::string text = body.dump();
        return c.send(FakeServer::reply(200, text.substr(0, text.size() / 2)));
      }
      case 6:
        return c.send("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{\"rows\":");
      default:
        return false;
    }
  });
  EXPECT_EQ(fetch(server.url()), 250);
  EXPECT_EQ(read_file(file_), lines(250));
  EXPECT_THAT(waits_, ElementsAre(7, 2, 1, 2, 4));
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("is busy or failed (HTTP 429: slow down); trying again in 7")));
}

TEST_F(Fetch, KeepsItsConnection) {
  for (const bool kept : {true, false}) {
    FakeServer server([](const FakeServer::Request& request, const FakeServer::Connection& c) {
      const std::string body = page(std::stoll(parameter(request.head, "offset")), 100, 350).dump();
      c.send(fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
    });
    if (kept) server.keep_connections();  // else it hangs up after each without having said so
    EXPECT_EQ(fetch(server.url()), 350);
    EXPECT_EQ(read_file(file_), lines(350));
    EXPECT_EQ(server.connections(), kept ? 1 : 4);
  }
}

TEST_F(Fetch, GivesUpAndGoesOnLater) {
  {
    const Rows failing(250, [](int request, Json&, const FakeServer::Connection& c) {
      return request > 1 && c.send(FakeServer::reply(503, "{\"error\": \"no capacity\"}"));
    });
    EXPECT_THAT(error_of(failing.url()),
                AllOf(HasSubstr("is busy or failed (HTTP 503: no capacity) (tried 4 times); the rows so far are kept"),
                      HasSubstr("huggingface.co/datasets/some one/toy (configuration main, split test)"),
                      HasSubstr(file_.string()), HasSubstr("docs/data.md")));
    EXPECT_THAT(waits_, ElementsAre(1, 2, 4));
  }
  EXPECT_FALSE(fs::exists(file_));
  EXPECT_EQ(read_file(unfinished_), std::string(kHeader) + "\n" + lines(100));
  const Rows server(250);
  EXPECT_EQ(fetch(server.url()), 250);
  EXPECT_EQ(read_file(file_), lines(250));
  EXPECT_THAT(server.offsets(), ElementsAre("100", "200"));
}

TEST_F(Fetch, GoesOnWhereAKilledOneStopped) {
  leave(kHeader, 137, "{\"text\": \"half a li");
  const Rows server(250);
  EXPECT_EQ(fetch(server.url()), 250);
  EXPECT_EQ(read_file(file_), lines(250));
  EXPECT_THAT(server.offsets(), ElementsAre("137", "237"));
}

TEST_F(Fetch, NeedsNoServerWhereOnlyTheLastStepIsMissing) {
  leave(kHeader, 250);
  EXPECT_EQ(fetch("http://127.0.0.1:1"), 250);
  EXPECT_EQ(read_file(file_), lines(250));
}

TEST_F(Fetch, BeginsAnewWhereTheFirstPartIsOfSomethingElse) {
  const std::string other = R"({"repository":"some one/toy","configuration":"other","split":"test","rows":250})";
  const std::string headers[] = {
      other, "", "{}", "{\"text\": \"a row\"}", "\xff", std::string(100000, '['),
      R"({"repository":"some one/toy","configuration":"main","split":"test","rows":-1})",
      R"({"repository":"some one/toy","configuration":"main","split":"test","rows":18446744073709551615})",
      // more rows than there can be
      R"({"repository":"some one/toy","configuration":"main","split":"test","rows":2})"};
  for (const std::string& header : headers) {
    leave(header, 3);
    const Rows server(3);
    EXPECT_EQ(fetch(server.url()), 3);
    EXPECT_EQ(read_file(file_), lines(3));
    EXPECT_THAT(server.offsets(), ElementsAre("0"));
  }
}

TEST_F(Fetch, RefusesWhatIsIncomplete) {
  const struct {
    std::function<void(Json&)> spoil;
    const char* says;
  } cases[] = {
      {[](Json& body) { body["num_rows_total"] = 0; }, "says that the data set has no rows"},
      {[](Json& body) { body["num_rows_total"] = -5; }, "something else than rows"},
      {[](Json& body) { body["num_rows_total"] = UINT64_MAX, body["rows"] = Json::array(); },
       "something else than rows"},
      {[](Json& body) { body["num_rows_total"] = "250"; }, "something else than rows"},
      {[](Json& body) { body.erase("num_rows_total"); }, "something else than rows"},
      {[](Json& body) { body["rows"] = 7; }, "something else than rows"},
      {[](Json& body) { body = Json::array(); }, "something else than rows"},
      {[](Json& body) { body["rows"] = Json::array(); }, "gives 0 rows from row 0 on where 100 of 250 are due"},
      {[](Json& body) { body["num_rows_total"] = 50; }, "gives 100 rows from row 0 on where 50 of 50 are due"},
      {[](Json& body) { body["partial"] = true; }, "only the first part"},
      {[](Json& body) { body["rows"][3]["row_idx"] = 4; }, "something else than row 3"},
      {[](Json& body) { body["rows"][3].erase("row"); }, "something else than row 3"},
      {[](Json& body) { body["rows"][3] = 1; }, "something else than row 3"},
      {[](Json& body) { body["rows"][5]["truncated_cells"] = {"text"}; }, "gives row 5 with a field cut short"}};
  for (const auto& c : cases) {
    const Rows server(250, [&](int, Json& body, const FakeServer::Connection&) {
      c.spoil(body);
      return false;
    });
    EXPECT_THAT(error_of(server.url()), AllOf(HasSubstr(c.says), HasSubstr("by hand:"), Not(HasSubstr("are kept"))));
    EXPECT_TRUE(fs::is_empty(folder_.path()));
    EXPECT_EQ(server.offsets().size(), 1u);
  }
}

TEST_F(Fetch, TakesShorterPagesThanItAskedFor) {
  const Rows server(250, [](int, Json& body, const FakeServer::Connection&) {
    while (body["rows"].size() > 60) body["rows"].erase(body["rows"].size() - 1);
    return false;
  });
  EXPECT_EQ(fetch(server.url()), 250);
  EXPECT_EQ(read_file(file_), lines(250));
}

TEST_F(Fetch, SeesThatTheDataSetChanged) {
  for (const int64_t now : {90, 251}) {
    leave(kHeader, 100);
    const Rows server(now);
    EXPECT_THAT(error_of(server.url()), HasSubstr(fmt::format("has {} rows now and had 250 before", now)));
    EXPECT_TRUE(fs::is_empty(folder_.path()));
  }
}

TEST_F(Fetch, SaysWhyThereIsNothingToHave) {
  const struct {
    std::string reply;
    const char* says;
  } cases[] = {{FakeServer::reply(404, "{\"error\": \"The dataset does not exist.\"}"),
                "refuses the data set (HTTP 404: The dataset does not exist.)"},
               {FakeServer::reply(401, ""), "refuses the data set (HTTP 401)"},
               {FakeServer::reply(501, "{\"error\": \"too large\"}"), "refuses the data set (HTTP 501: too large)"},
               {FakeServer::reply(302, "", "text/html", "Location: http://other.example/\r\n"),
                "redirects to http://other.example/"},
               {FakeServer::reply(200, "<html>hello</html>", "text/html"), "something else than JSON"},
               {FakeServer::reply(200, "{\"rows\": " + std::string(100000, '[')), "broke off its answer"},
               {"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"}};
  for (const auto& c : cases) {
    const FakeServer server(c.reply);
    EXPECT_THAT(error_of(server.url()), AllOf(HasSubstr(c.says), HasSubstr("by hand:")));
    EXPECT_TRUE(fs::is_empty(folder_.path()));
  }
  EXPECT_THAT(error_of("http://127.0.0.1:1"),
              AllOf(HasSubstr("http://127.0.0.1:1 cannot be reached"),
                    HasSubstr("by hand: the rows of huggingface.co/datasets/some one/toy")));
  EXPECT_THROW(fetch("ftp://example.org"), UsageError);
}

TEST_F(Fetch, LeavesTheFileOfAnotherProcessAlone) {
  leave(kHeader, 3);
  const LineFile held(unfinished_);
  const Rows server(250);
  EXPECT_THAT(error_of(server.url()), HasSubstr("another haqa is writing it"));
  EXPECT_EQ(read_file(unfinished_), std::string(kHeader) + "\n" + lines(3));
}

TEST(Catalogue, HasTheTasksOfThePaperAndAlpaca) {
  EXPECT_EQ(known_data_sets().size(), 9u);
  for (const DataSet& set : known_data_sets()) EXPECT_EQ(&known_data_set(set.name), &set);
  EXPECT_EQ(known_data_set("winogrande").configuration, "winogrande_xl");
  EXPECT_THROW(known_data_set("imagenet"), UsageError);
}

}  // namespace
}  // namespace haqa
