#include "haqa/agent/manual.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iostream>
#include <span>
#include <thread>

#include "haqa/base/file.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{100}, kSettled{200}, kUnfinished{2000};

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

/// An answer file that an editor, a browser or scp may still be writing.
class AnswerFile {
 public:
  explicit AnswerFile(fs::path file) : file_(std::move(file)) {}

  /// The content once it stopped changing: 200 ms after a complete JSON object, 2 s after anything else.
  std::optional<std::string> look() {
    std::error_code code;
    if (!fs::is_regular_file(file_, code)) return {};
    const auto size = fs::file_size(file_, code);
    const auto written = code ? fs::file_time_type() : fs::last_write_time(file_, code);
    if (code) return {};  // gone again: editors replace files
    const auto now = Clock::now();
    if (!since_ || size != size_ || written != written_) {
      since_ = now;
      size_ = size;
      written_ = written;
      return {};
    }
    if (size == 0 || now - *since_ < kSettled) return {};
    std::string content = read_file(file_);
    if (content.size() != size || is_blank(content)) return {};
    if (now - *since_ < kUnfinished && find_json_objects(content).empty()) return {};
    return content;
  }

 private:
  fs::path file_;
  std::optional<Clock::time_point> since_;  ///< when the file was first seen in its present state
  uintmax_t size_ = 0;
  fs::file_time_type written_;
};

/// An answer typed or pasted into a terminal.
class TypedAnswer {
 public:
  explicit TypedAnswer(int fd) : fd_(fd) {}

  /// Waits a moment for input. The text once an empty line follows a JSON object, though not within a fenced block
  /// behind it, or at the end of the input.
  std::optional<std::string> look() {
    pollfd waited{fd_, POLLIN, 0};
    if (fd_ < 0 || ended_ || poll(&waited, 1, static_cast<int>(kPoll.count())) <= 0) {
      if (fd_ < 0 || ended_) std::this_thread::sleep_for(kPoll);
      return {};
    }
    std::array<char, 4096> buffer;
    const ssize_t n = read(fd_, buffer.data(), buffer.size());
    if (n < 0) {
      ended_ = errno != EINTR && errno != EAGAIN;  // a closed terminal; the file remains
      return {};
    }
    if (n == 0) {
      ended_ = is_blank(text_);
      return ended_ ? std::nullopt : std::optional(text_);
    }
    text_.append(buffer.data(), static_cast<size_t>(n));
    return is_complete() ? std::optional(text_) : std::nullopt;
  }

 private:
  bool is_complete() const {
    const size_t end = text_.find_last_not_of(" \t\r\n");
    return end != std::string::npos &&
           std::count(text_.begin() + static_cast<ptrdiff_t>(end), text_.end(), '\n') >= 2 && !has_open_fence() &&
           !find_json_objects(text_).empty();
  }
  bool has_open_fence() const {
    int fences = 0;
    for (size_t at = text_.find("```"); at != std::string::npos; at = text_.find("```", at + 3)) ++fences;
    return fences % 2 == 1;
  }

  int fd_;
  bool ended_ = false;
  std::string text_;
};

class ManualProvider : public ChatProvider {
 public:
  ManualProvider(fs::path folder, size_t answered, int input, std::ostream& notices)
      : folder_(std::move(folder)), input_(input), number_(answered + 1), notices_(notices) {
    make_folder(folder_);
  }
  std::string name() const override { return "manual"; }
  ChatReply complete(const ChatRequest& request) override;

 private:
  std::string prompt_text(const std::vector<Message>& messages) const;
  bool goes_on(const std::vector<Message>& messages) const;
  std::string wait_for_answer(const fs::path& file) const;

  fs::path folder_;
  int input_;
  size_t number_;
  std::ostream& notices_;
  std::vector<Message> shown_;  ///< the conversation so far
};

/// What the chat window does not hold yet; everything where the conversation is another one.
std::string ManualProvider::prompt_text(const std::vector<Message>& messages) const {
  size_t next = 0, told = 0;  // the first message with something new, and how much of it is old
  if (goes_on(messages)) {
    next = shown_.size() - 1;
    told = messages[next].content.find_first_not_of('\n', shown_[next].content.size());
    if (told == std::string::npos) {
      ++next;
      told = 0;
      if (next + 1 < messages.size() && messages[next].role == "assistant") ++next;  // the window's own answer
    }
  }
  std::string text;
  for (; next < messages.size(); ++next, told = 0)
    text += fmt::format("{}# {}\n\n{}\n", text.empty() ? "" : "\n", messages[next].role,
                        std::string_view(messages[next].content).substr(told));
  return text;
}

/// The last message that was shown may have grown since.
bool ManualProvider::goes_on(const std::vector<Message>& messages) const {
  if (shown_.empty() || messages == shown_ || messages.size() < shown_.size()) return false;
  const Message& last = shown_.back();
  const Message& now = messages[shown_.size() - 1];
  return extends(messages, std::span(shown_).first(shown_.size() - 1)) && now.role == last.role &&
         now.content.starts_with(last.content);
}

std::string ManualProvider::wait_for_answer(const fs::path& path) const {
  AnswerFile file(path);
  TypedAnswer typed(input_);
  for (;;) {
    check_interrupted();
    if (auto answer = file.look()) return *answer;
    if (auto answer = typed.look()) return *answer;
  }
}

ChatReply ManualProvider::complete(const ChatRequest& request) {
  const fs::path prompt = folder_ / fmt::format("prompt-{}.md", number_);
  const fs::path answer = folder_ / fmt::format("answer-{}.md", number_);
  const std::string text = prompt_text(request.messages);
  const bool anew = text.starts_with("# system");  // all of it is there
  write_file(prompt, text);
  notices_ << text << "\n[haqa] Paste the above, which is also in " << prompt.string()
           << (anew ? ", into a new chat" : ", into the same chat") << ".\n[haqa] Save the answer as "
           << answer.string() << (input_ < 0 ? "." : ", or paste it here and end it with an empty line.") << std::endl;
  const auto start = Clock::now();
  ChatReply reply;
  reply.content = wait_for_answer(answer);
  reply.latency_s = std::chrono::duration<double>(Clock::now() - start).count();
  reply.finish_reason = "stop";
  ++number_;
  shown_ = request.messages;
  return reply;
}

}  // namespace

std::unique_ptr<ChatProvider> make_manual_provider(const fs::path& folder, size_t answered, int input,
                                                   std::ostream& notices) {
  return std::make_unique<ManualProvider>(folder, answered, input, notices);
}

std::unique_ptr<ChatProvider> make_manual_provider(const fs::path& folder, size_t answered) {
  return make_manual_provider(folder, answered, isatty(STDIN_FILENO) ? STDIN_FILENO : -1, std::cerr);
}

}  // namespace haqa
