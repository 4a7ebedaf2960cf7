// haqa-train: the worker that trains, by libtorch. haqa starts it; see worker/worker.h for the protocol.
#include <llama.h>
#include <malloc.h>

#include <cstdio>
#include <new>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/train/finetune.h"
#include "haqa/train/torch_message.h"
#include "haqa/vision/export_job.h"
#include "haqa/vision/train_images.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

NoMemoryError no_memory(std::string_view whose) {
  return NoMemoryError("{} is full; choose a smaller batch or activation checkpointing", whose);
}

Json handle(const Json& request, const std::function<void(double)>& progress) {
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  const std::string command = request.at("command");
  try {
    if (command == "finetune") return finetune(finetune_job_from(request), progress);
    if (command == "train_images" || command == "measure_images" || command == "export_network")
      return serve_images(request, progress);
    if (command == "export") return export_checkpoint(request);
  } catch (const c10::OutOfMemoryError&) {
    throw no_memory("the device's memory");
  } catch (const std::bad_alloc&) {
    throw no_memory("memory");
  } catch (const c10::Error& error) {
    // What libtorch's allocator of main memory throws has no type of its own.
    if (std::string_view(error.what_without_backtrace()).find("DefaultCPUAllocator") != std::string_view::npos)
      throw no_memory("memory");
    throw Error("libtorch could not go on: {}", first_line(error));
  }
  throw Error("haqa-train knows no command \"{}\"", command);
}

}  // namespace
}  // namespace haqa

int main() {
  // The allocator would give every large tensor back to the system and have it zeroed anew for the next one.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  return haqa::serve_worker(haqa::handle);
}
