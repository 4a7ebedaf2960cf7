#include <algorithm>
#include <utility>

#include "haqa/agent/chat.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// What one recorded call brought: a reply, or the error it ended with.
struct Exchange {
  ChatReply reply;
  std::string error;
  bool passing = true, failed = false;
};

/// Nothing where the line is no exchange.
std::optional<Exchange> read_exchange(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return {};
  try {
    Exchange exchange;
    exchange.failed = json.contains("error");
    if (exchange.failed) {
      exchange.error = json.at("error").get<std::string>();
      exchange.passing = json.value("passing", true);
      return exchange;
    }
    exchange.reply.content = json.at("reply").get<std::string>();
    exchange.reply.prompt_tokens = json.value("prompt_tokens", int64_t{0});
    exchange.reply.completion_tokens = json.value("completion_tokens", int64_t{0});
    exchange.reply.latency_s = json.value("latency_s", 0.0);
    exchange.reply.finish_reason = json.value("finish_reason", "");
    return exchange;
  } catch (const Json::exception&) {
    return {};
  }
}

std::vector<Exchange> read_transcript(const fs::path& file) {
  const std::string text = read_file(file);
  std::vector<Exchange> exchanges;
  int number = 1;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = text.find('\n', begin);
    const bool finished = end != std::string::npos;
    const std::string line = text.substr(begin, finished ? end - begin : end);
    begin = finished ? end + 1 : text.size();
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (std::optional<Exchange> exchange = read_exchange(line)) {
      exchanges.push_back(std::move(*exchange));
    } else if (finished) {  // an unfinished one is what a killed process leaves
      throw Error("{}: line {} is no exchange of a transcript; restore or delete that line", file.string(), number);
    }
  }
  if (exchanges.empty()) throw Error("{}: holds no exchange; name a transcript of an earlier run", file.string());
  return exchanges;
}

class ReplayProvider : public ChatProvider {
 public:
  ReplayProvider(const fs::path& transcript, size_t skip)
      : file_(transcript), exchanges_(read_transcript(transcript)), next_(std::min(skip, exchanges_.size())) {}
  std::string name() const override { return "replay"; }
  ChatReply complete(const ChatRequest&) override;

 private:
  fs::path file_;
  std::vector<Exchange> exchanges_;
  size_t next_;
};

ChatReply ReplayProvider::complete(const ChatRequest&) {
  if (next_ == exchanges_.size())
    throw ProviderError(false, fmt::format("{}: all its {} exchanges are used up; ask for fewer rounds or take another "
                                           "provider",
                                           file_.string(), exchanges_.size()));
  const Exchange& exchange = exchanges_[next_++];
  if (exchange.failed) throw ProviderError(exchange.passing, exchange.error);
  return exchange.reply;
}

}  // namespace

std::unique_ptr<ChatProvider> make_replay_provider(const fs::path& transcript, size_t skip) {
  return std::make_unique<ReplayProvider>(transcript, skip);
}

}  // namespace haqa
