#pragma once
#include <functional>
#include <string>

#include "haqa/base/error.h"
#include "haqa/base/json.h"
#include "haqa/worker/process.h"

namespace haqa {

/// A worker that gave no result: it crashed, hung, ran out of memory, wrote rubbish, or says itself what was wrong.
class WorkerError : public Error {
 public:
  WorkerError(ProcessEnd how, const std::string& what) : Error(what), end(how) {}
  ProcessEnd end;
};

/// One that ended well, but what it wrote is no result.
class WrongResult : public WorkerError {
 public:
  explicit WrongResult(const std::string& what) : WorkerError(ProcessEnd::exited, what) {}
};

struct WorkerLimits {
  double timeout_s = 0;       ///< 0: none
  uint64_t memory_bytes = 0;  ///< resident; 0: none
};

/// Runs one of HAQA's worker programs (in program_folder()) on one request. The protocol is one JSON object a line: the
/// request on its standard input; on its standard output any number of {"event":"progress","share":0.5} and then
/// {"event":"result",...} or {"event":"error","message":"...","kind":"no_space"}; the kind may also be "no_memory", or
/// missing. Returns the result without its "event". Throws WorkerError (of ProcessEnd::out_of_memory too where memory
/// could not be had, or the system killed the worker, as it does where memory is short), NoSpaceError, Interrupted.
Json call_worker(const std::string& program, const Json& request, const WorkerLimits& limits = {},
                 const std::function<void(double share)>& on_progress = {});

/// The worker's side: reads one request from standard input, calls `handle`, writes the result or the error.
/// `handle` may call the function that it is given to report progress. Returns the exit status for main().
using WorkerHandler = std::function<Json(const Json& request, const std::function<void(double share)>& progress)>;
int serve_worker(const WorkerHandler& handle);

}  // namespace haqa
