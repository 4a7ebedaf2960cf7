#include <algorithm>
#include <utility>

#include "haqa/agent/chat.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"

namespace haqa {
namespace {

/// "messages_from" is the index in the conversation at which "messages" begin: 0 for a whole one, as in the first
/// exchange and after a history was summarised.
Json describe(const std::string& provider, const std::vector<Message>& messages, size_t from) {
  Json line = {{"time", utc_now()}, {"provider", provider}, {"messages", Json::array()}};
  for (size_t i = from; i < messages.size(); ++i)
    line["messages"].push_back({{"role", messages[i].role}, {"content", messages[i].content}});
  line["messages_from"] = from;
  line["messages_total"] = messages.size();
  return line;
}

}  // namespace

bool extends(std::span<const Message> longer, std::span<const Message> shorter) {
  return longer.size() >= shorter.size() && std::equal(shorter.begin(), shorter.end(), longer.begin());
}

struct RecordingProvider::File {
  explicit File(const std::filesystem::path& transcript) : lines(transcript) {}
  LineFile lines;
  std::vector<Message> former;  ///< what the transcript holds already

  /// The fields that every exchange has.
  Json start_line(const std::string& provider, const ChatRequest& request) {
    const std::vector<Message>& messages = request.messages;
    Json line = describe(provider, messages, extends(messages, former) ? former.size() : 0);
    std::string names;
    for (const TrackHistory& h : request.tracks) names += (names.empty() ? "" : ", ") + h.track->name;
    if (!request.tracks.empty()) line["track"] = names;
    former = messages;
    return line;
  }
};

RecordingProvider::RecordingProvider(std::unique_ptr<ChatProvider> inner, const std::filesystem::path& transcript)
    : inner_(std::move(inner)), file_(std::make_unique<File>(transcript)) {}

RecordingProvider::~RecordingProvider() = default;

std::string RecordingProvider::name() const {
  return inner_->name();
}

void RecordingProvider::check() {
  inner_->check();
}

void RecordingProvider::suspend() {
  inner_->suspend();
}

ChatReply RecordingProvider::complete(const ChatRequest& request) {
  ChatReply reply;
  try {
    reply = inner_->complete(request);
  } catch (const ProviderError& e) {  // an outcome of the study, part of its record; Ctrl-C is none
    Json line = file_->start_line(inner_->name(), request);
    line["error"] = e.what();
    line["passing"] = e.passing;
    file_->lines.append(to_line(line));
    throw;
  }
  Json line = file_->start_line(inner_->name(), request);
  line["reply"] = reply.content;
  line["prompt_tokens"] = reply.prompt_tokens;
  line["completion_tokens"] = reply.completion_tokens;
  line["latency_s"] = reply.latency_s;
  line["finish_reason"] = reply.finish_reason;
  file_->lines.append(to_line(line));
  return reply;
}

}  // namespace haqa
