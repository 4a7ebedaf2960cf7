#include "haqa/kernel/contestant.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/kernel/runner.h"
#include "haqa/kernel/sandbox.h"

namespace haqa {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array<std::pair<KernelFaultKind, std::string_view>, 14> kNames = {{
    {KernelFaultKind::refused_source, "refused source"},
    {KernelFaultKind::does_not_compile, "does not compile"},
    {KernelFaultKind::does_not_load, "does not load"},
    {KernelFaultKind::forbidden_call, "forbidden call"},
    {KernelFaultKind::crashed, "crashed"},
    {KernelFaultKind::ended_early, "ended early"},
    {KernelFaultKind::timed_out, "timed out"},
    {KernelFaultKind::out_of_bounds, "out of bounds"},
    {KernelFaultKind::not_written, "not written"},
    {KernelFaultKind::wrong_result, "wrong result"},
    {KernelFaultKind::works_on, "works on"},
    {KernelFaultKind::out_of_turn, "out of turn"},
    {KernelFaultKind::impossible_time, "impossible time"},
    {KernelFaultKind::does_not_run, "does not run"},
}};

/// What a thread may use to wake and to fall asleep, in seconds, in the mean.
constexpr double kInTheMean = 60e-6;
/// More than this at once is suspect. But interrupts and a processor that the host takes away are counted as the
/// thread's, and what another process is told of one that falls asleep may be a tick of the clock old.
constexpr double kSuspect = 250e-6;
/// More is no accident.
constexpr double kAtOnce = 10e-3;
constexpr int kEnoughRuns = 20;
/// Of the time that was taken so far, what may be used after the answers.
constexpr double kAfter = 0.05;

double seconds_of(const timespec& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// What a process said of itself may hold anything.
template <size_t N>
std::string said_in(const char (&text)[N]) {
  return one_line(std::string(text, strnlen(text, N)), 400);
}

std::string message_of(const Control& control) {
  return said_in(control.message);
}

}  // namespace

std::string_view to_string(KernelFaultKind kind) {
  return std::find_if(kNames.begin(), kNames.end(), [&](const auto& n) { return n.first == kind; })->second;
}

std::optional<KernelFaultKind> fault_kind(std::string_view name) {
  const auto at = std::find_if(kNames.begin(), kNames.end(), [&](const auto& n) { return n.second == name; });
  return at == kNames.end() ? std::nullopt : std::optional(at->first);
}

Contestant::Contestant(std::string name, const Contest& contest, const std::string& program, int threads,
                       uint64_t weights_limit, const std::vector<std::string>& rest, bool is_confined,
                       const std::string& engine)
    : name_(std::move(name)),
      threads_(threads),
      is_confined_(is_confined),
      is_on_device_(engine != "cpu"),
      in_(make_pipe()),
      out_(make_pipe()) {
  control().forbidden_call = -1;
  Command command{{program}};
  const std::string mode = is_on_device_ ? "--" + engine : "--runner";
  for (const std::string& word : to_words({contest.inputs.path(), outputs_.path(), threads, weights_limit, mode}))
    command.argv.push_back(word);
  command.argv.insert(command.argv.end(), rest.begin(), rest.end());
  // llama.cpp's threads have a core each as ours do: two on one would wait for each other's time slices.
  command.environment = {{"OMP_PLACES", "cores"}, {"OMP_PROC_BIND", "spread"}};
  command.own_environment = !is_on_device_;  // which may hold keys; drivers find their files by it
  const Descriptor nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
  group_.emplace(command, in_.read.get(), out_.write.get(), nowhere.get());
  in_.read.reset();
  out_.write.reset();
  fcntl(out_.read.get(), F_SETFL, O_NONBLOCK);
  clock_getcpuclockid(group_->leader(), &cpu_clock_);
}

void Contestant::fail(KernelFaultKind kind, const std::string& why) const {
  // What is ours or llama.cpp's is no variant's fault.
  if (!is_confined_) throw Error("{}: {}", name_, why);
  throw KernelFault(kind, why);
}

void Contestant::ask(Request request) {
  char waiting = 0;
  if (read(out_.read.get(), &waiting, 1) == 1) fail(KernelFaultKind::out_of_turn, "it answered before it was asked");
  const char letter = static_cast<char>(request);
  // A process that has ended is found by await().
  [[maybe_unused]] const ssize_t n = write(in_.write.get(), &letter, 1);
}

void Contestant::await(Request request, double timeout_s) {
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout_s));
  for (;;) {
    check_interrupted();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait = {out_.read.get(), POLLIN, 0};
    poll(&wait, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 100)));
    char letter = 0;
    const ssize_t got = read(out_.read.get(), &letter, 1);
    if (got == 1) {
      if (letter == static_cast<char>(request)) return;
      if (letter == kFailed) throw_failure(request);
      fail(KernelFaultKind::out_of_turn, "it answered what it was not asked");
    }
    if (got == 0) throw_end(group_->reap().value_or(0));
    if (left <= 0) fail(KernelFaultKind::timed_out, fmt::format("it did not finish within {:.3g} s", timeout_s));
  }
}

/// What it wrote is believed as long as none of the variant's code has run.
void Contestant::throw_failure(Request request) {
  const Control& said = control();
  if (request == Request::begin) {
    if (said.failure == Failure::no_sandbox || said.failure == Failure::no_device)
      throw UsageError("{}", message_of(said));
    if (said.failure == Failure::does_not_load) fail(KernelFaultKind::does_not_load, message_of(said));
    if (said.failure == Failure::does_not_compile)
      fail(KernelFaultKind::does_not_compile,
           shortened(printable(std::string(said.message, strnlen(said.message, sizeof said.message))), 1000));
  }
  fail(KernelFaultKind::does_not_run, (is_watched() ? "its process says: " : "") + message_of(said));
}

void Contestant::throw_end(int status) {
  // The pipe's end can come before the process's.
  for (const auto deadline = Clock::now() + std::chrono::seconds(3); group_->leader() > 0 && Clock::now() < deadline;) {
    if (const auto reaped = group_->reap()) status = *reaped;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const Control& said = control();
  if (said.forbidden_call >= 0)
    fail(KernelFaultKind::forbidden_call,
         fmt::format("it made the system call {}, which a kernel may not: it computes, on the memory that it is given, "
                     "by the threads that call it",
                     system_call_name(said.forbidden_call)));
  const int number = WIFSIGNALED(status) ? WTERMSIG(status) : said.crash_signal;
  if (said.fault_memory == 'i') fail(KernelFaultKind::out_of_bounds, "it wrote to its inputs");
  if (said.fault_memory == 'o') fail(KernelFaultKind::out_of_bounds, "it wrote far beyond its output");
  if (number > 0) fail(KernelFaultKind::crashed, fmt::format("it crashed: signal {} ({})", number, strsignal(number)));
  fail(KernelFaultKind::ended_early, fmt::format("it ended its process with status {}", WEXITSTATUS(status)));
}

std::string Contestant::device() const {
  return said_in(reinterpret_cast<const Control*>(outputs_.data())->device);
}

void Contestant::prepare(double timeout_s) {
  for (const Request request : {Request::begin, Request::prepare}) {
    if (request == Request::begin && has_begun_) continue;
    ask(request);
    await(request, timeout_s);
    has_begun_ = true;
  }
  rested_.reset();  // it packs weights
}

double Contestant::timed(Request request, double timeout_s) {
  const auto start = Clock::now();
  ask(request);
  await(request, timeout_s);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double Contestant::run(std::span<const LaunchPlace> places, double timeout_s) {
  if (places.size() > kMostLaunches) throw Error("more than {} launches at once", kMostLaunches);
  if (is_watched()) {
    wait_until_idle();  // nothing of it sees the launches before the clock runs
    check_rest();
  }
  const double used = cpu_seconds();
  Control& c = control();
  c.launches = static_cast<uint32_t>(places.size());
  std::copy(places.begin(), places.end(), c.places);
  if (!is_watched()) timed(Request::load, timeout_s);
  const double taken = timed(Request::run, timeout_s);
  if (!is_watched()) {
    timed(Request::fetch, timeout_s);
    return taken;
  }
  const double answered = cpu_seconds();
  wait_until_idle();
  ++runs_;
  rested_ = cpu_seconds();
  taken_ += taken;
  after_ += *rested_ - answered;
  check_used(*rested_ - used - threads_ * taken, "after it had answered");
  if (runs_ >= kEnoughRuns && after_ > kAfter * taken_ + runs_ * threads_ * kInTheMean)
    fail(KernelFaultKind::works_on, "it went on working after it had answered");
  return taken;
}

void Contestant::check_rest() {
  if (!rested_) return;
  const double before = *std::exchange(rested_, cpu_seconds());
  check_used(*rested_ - before, "while others were timed");
}

/// More than its threads can use while the clock ran was used behind our back: by waking and falling asleep, which is
/// little in the mean, or in a suspect run. What it left unused is no credit for other runs.
void Contestant::check_used(double beyond, const char* when) {
  const bool is_suspect = beyond > threads_ * kSuspect;
  if (is_suspect) ++suspicions_;
  beyond_ += is_suspect ? 0 : std::max(0.0, beyond);
  if (beyond > threads_ * kAtOnce || suspicions_ > 3 + runs_ / 20 ||
      (runs_ >= kEnoughRuns && beyond_ / runs_ > threads_ * kInTheMean))
    fail(KernelFaultKind::works_on, fmt::format("it went on working {}", when));
}

double Contestant::cpu_seconds() const {
  timespec t = {};
  return clock_gettime(cpu_clock_, &t) == 0 ? seconds_of(t) : 0;
}

std::vector<std::string> Contestant::read_of_threads(const char* name) const {
  std::vector<std::string> texts;
  std::error_code fault;  // a thread may end meanwhile
  const std::string tasks = "/proc/" + std::to_string(group_->leader()) + "/task";
  for (std::filesystem::directory_iterator task(tasks, fault), end; !fault && task != end; task.increment(fault)) {
    std::ifstream in(task->path() / name);
    std::getline(in, texts.emplace_back());
  }
  return texts;
}

std::vector<double> Contestant::waited_seconds() const {
  std::vector<double> all;
  for (const std::string& text : read_of_threads("schedstat")) {
    std::istringstream in(text);
    double ran = 0, waited = 0;
    in >> ran >> waited;
    all.push_back(waited * 1e-9);
  }
  return all;
}

bool Contestant::is_running() const {
  const std::vector<std::string> all = read_of_threads("stat");
  return std::any_of(all.begin(), all.end(), [](const std::string& text) {
    const size_t name_end = text.rfind(')');  // a name may hold anything
    return name_end != std::string::npos && text.compare(name_end, 3, ") R") == 0;
  });
}

void Contestant::wait_until_idle() {
  if (is_on_device_) return;  // drivers have threads of their own
  // OpenMP's threads spin for a while before they sleep, and a busy machine may give one no processor to do so.
  const auto deadline = Clock::now() + std::chrono::seconds(is_confined_ ? 3 : 30);
  for (bool is_last = false; is_running();) {
    if (is_last && !is_confined_) throw Error("{}: its threads come to no rest; the machine may be too busy", name_);
    if (is_last) fail(KernelFaultKind::works_on, "it goes on working after it has answered");
    is_last = Clock::now() > deadline;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

}  // namespace haqa
