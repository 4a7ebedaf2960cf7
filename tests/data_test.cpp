// The command that fetches data sets: haqa data.
#include <signal.h>

#include <atomic>
#include <sstream>

#include "haqa/http/fake_server.h"
#include "tests/program.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

class DataTest : public testing::Test {
 protected:
  const TemporaryFolder folder_;
  std::string path(const std::string& name) const { return folder_ / name; }

  Command haqa(std::vector<std::string> arguments, const std::string& server = "http://127.0.0.1:1") const {
    Command command;
    command.argv = {HAQA_BIN_DIR "/haqa", "data"};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.environment = {{"HAQA_DATA_SERVER", server}};
    command.timeout_s = 60;
    return command;
  }
  ProcessResult run(std::vector<std::string> arguments, const std::string& server = "http://127.0.0.1:1") const {
    return run_process(haqa(std::move(arguments), server));
  }
};

/// Of a data set of 250 rows {"n": i}, as the public server answers.
std::string page(const FakeServer::Request& request) {
  const size_t at = request.head.find("offset=") + 7;
  const int offset = std::stoi(request.head.substr(at));
  Json rows = Json::array();
  for (int i = offset; i < std::min(offset + 100, 250); ++i)
    rows.push_back({{"row_idx", i}, {"row", {{"n", i}}}, {"truncated_cells", Json::array()}});
  return FakeServer::reply(200, Json{{"features", Json::array()}, {"rows", rows}, {"num_rows_total", 250}}.dump());
}

std::string expected() {
  std::string lines;
  for (int i = 0; i < 250; ++i) lines += fmt::format("{{\"n\":{}}}\n", i);
  return lines;
}

TEST_F(DataTest, FetchesWhatIsNamedAndLeavesWhatIsThere) {
  const FakeServer server([](const FakeServer::Request& r, const FakeServer::Connection& c) { c.send(page(r)); });
  const ProcessResult r = run({"boolq", "arc_easy", "boolq", "-o", path("d")}, server.url());
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_EQ(r.output, path("d/boolq.jsonl") + ": 250 rows\n" + path("d/arc_easy.jsonl") + ": 250 rows\n");
  EXPECT_EQ(read_file(path("d/boolq.jsonl")), expected());
  EXPECT_THAT(server.requests()[3].head, HasSubstr("dataset=allenai%2fai2_arc&config=ARC-Easy&split=test&offset=0"));
  const ProcessResult again = run({"boolq", "--json", "--server", server.url(), "-o", path("d")});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again.output, "[]\n");
  EXPECT_THAT(again.errors, HasSubstr("is there already"));
  EXPECT_EQ(server.requests().size(), 6u);
}

TEST_F(DataTest, GoesOnAfterCtrlC) {
  std::atomic<bool> hangs = true;
  const FakeServer server([&](const FakeServer::Request& r, const FakeServer::Connection& c) {
    if (hangs && r.head.find("offset=0&") == std::string::npos) return c.hang();
    c.send(page(r));
  });
  {
    const Command command = haqa({"rte", "-o", path("d")}, server.url());
    BackgroundProcess process({command.argv, command.environment}, folder_ / "log");
    EXPECT_TRUE(wait_until([&] { return server.requests().size() == 2; }));
    process.signal(SIGTERM);  // as Ctrl-C does
    EXPECT_TRUE(wait_until([&] { return !process.running(); }));
  }
  EXPECT_FALSE(fs::exists(path("d/rte.jsonl")));
  EXPECT_TRUE(fs::exists(path("d/rte.jsonl.unfinished")));
  hangs = false;
  const ProcessResult r = run({"rte", "-o", path("d"), "--json", "-q"}, server.url());
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_EQ(Json::parse(r.output), (Json{{{"name", "rte"}, {"file", path("d/rte.jsonl")}, {"rows", 250}}}));
  EXPECT_EQ(read_file(path("d/rte.jsonl")), expected());
  EXPECT_THAT(server.requests().at(2).head, HasSubstr("offset=100&"));
  EXPECT_THAT(r.errors, IsEmpty());
}

TEST_F(DataTest, SaysWhatToDoByHandWithoutANetwork) {
  const ProcessResult r = run({"hellaswag", "-o", path("d")});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.errors, HasSubstr("cannot be reached"));
  EXPECT_THAT(r.errors, HasSubstr("huggingface.co/datasets/Rowan/hellaswag (configuration default, split validation)"));
  EXPECT_THAT(r.errors, HasSubstr(path("d/hellaswag.jsonl")));
}

TEST_F(DataTest, RefusesWrongUse) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {}, {"imagenet"}, {"boolq", "imagenet"}, {"boolq", "--server", "ftp://x"}, {"boolq", "--output", ""}}) {
    const ProcessResult r = run(arguments);
    EXPECT_EQ(r.code, 2) << r.errors;
  }
  EXPECT_THAT(run({"imagenet"}).errors, HasSubstr("choose among alpaca, boolq"));
  std::ofstream(path("file")) << "x";
  EXPECT_EQ(run({"boolq", "-o", path("file")}).code, 1);
}

TEST_F(DataTest, ListsTheDataSets) {
  const ProcessResult r = run({"--list"});
  ASSERT_TRUE(r.ok());
  EXPECT_THAT(r.output, HasSubstr("tatsu-lab/alpaca"));
  EXPECT_EQ(Json::parse(run({"--list", "--json"}).output).size(), 9u);
}

TEST_F(DataTest, MakesImages) {
  const ProcessResult r =
      run({"make-images", "cifar10", path("set"), "--train", "20", "--test", "5", "--classes", "4", "-q"});
  ASSERT_TRUE(r.ok()) << r.errors;
  EXPECT_EQ(r.output, path("set") + ": 20 images to train on, 5 to test on, 4 classes\n");
  EXPECT_EQ(r.errors, "");
  EXPECT_EQ(fs::file_size(path("set/test_batch.bin")), 5u * 3073);
  EXPECT_EQ(read_file(path("set/batches.meta.txt")), "warm-circle\ncool-circle\nwarm-square\ncool-square\n");
  const struct {
    std::vector<std::string> arguments;
    std::string says;
  } wrong[] = {{{"cifar10", path("set")}, "is there already"},
               {{"png", path("other")}, "cifar10, cifar100 or folder"},
               {{"folder", path("other"), "--classes", "21"}, "2 to 20"},
               {{"folder"}, "folder is required"}};
  for (const auto& w : wrong) {
    std::vector<std::string> arguments = {"make-images"};
    arguments.insert(arguments.end(), w.arguments.begin(), w.arguments.end());
    const ProcessResult refused = run(arguments);
    EXPECT_EQ(refused.code, 2) << w.says;
    EXPECT_THAT(refused.errors, HasSubstr(w.says));
  }
}

}  // namespace
}  // namespace haqa
