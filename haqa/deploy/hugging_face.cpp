#include "haqa/deploy/hugging_face.h"

#include <charconv>
#include <string>
#include <vector>

#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/base/text.h"
#include "haqa/deploy/python_environment.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr const char* kTorch = "torch==2.13.0";  // as setup.sh's
/// What llama.cpp 0.5.0's requirements/requirements-convert_hf_to_gguf.txt and gguf-py ask for.
const std::vector<std::string> kPackages = {"transformers==4.57.6",    "numpy>=2.2.6", "sentencepiece>=0.1.98,<0.3.0",
                                            "protobuf>=4.21.0,<5.0.0", "tqdm>=4.27",   "pyyaml>=5.1",
                                            "requests>=2.25"};

/// Runs the script that its first argument names, with the rest as the script's own; its messages, which tqdm rewrites
/// with carriage returns, come out as lines.
constexpr const char* kRunner = R"py(
import os, runpy, sys
class Lines:
    encoding = "utf-8"
    def write(self, text):
        return sys.__stdout__.write(text.replace("\r", "\n"))
    def flush(self):
        sys.__stdout__.flush()
    def isatty(self):
        return False
sys.stderr = Lines()
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
)py";

/// setup.sh fetched libtorch as a whole Python package, which need not be fetched again.
bool use_fetched_torch(const fs::path& venv) {
  const fs::path site = fs::path(HAQA_TORCH).parent_path();
  if (!fs::exists(site / "torch" / "__init__.py")) return false;
  for (const auto& entry : fs::directory_iterator(venv / "lib"))
    if (fs::is_directory(entry.path() / "site-packages")) {
      write_file(entry.path() / "site-packages" / "haqa-torch.pth", site.string() + "\n");
      return true;
    }
  return false;
}

ProcessResult install(const fs::path& venv, const std::string& torch) {
  std::vector<std::string> packages = {torch};
  packages.insert(packages.end(), kPackages.begin(), kPackages.end());
  return install_packages(venv, packages, "numpy, sentencepiece, torch, transformers");
}

/// The CPU build of torch where pip finds it: the other is gigabytes of CUDA.
ProcessResult make_environment(const fs::path& venv) {
  ProcessResult made = make_venv(venv);
  if (made.ok() && use_fetched_torch(venv)) {
    made = install(venv, kTorch);
    if (made.ok()) return made;
    made = make_venv(venv);  // that torch was for another Python, say
  }
  if (!made.ok()) return made;
  for (const std::string& torch : {kTorch + std::string("+cpu"), std::string(kTorch)}) {
    made = install(venv, torch);
    if (made.ok()) break;
  }
  return made;
}

bool has_weights(const fs::path& folder, std::string_view extension) {
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == extension) return true;
  return false;
}

/// Throws where the folder is no model, or brings code: transformers would run it when it reads the tokenizer.
void check_folder(const fs::path& folder) {
  if (!fs::is_directory(folder))
    throw Error("{}: is no folder; name the folder of a Hugging Face model, with config.json in it", folder.string());
  if (!fs::exists(folder / "config.json"))
    throw Error("{}: holds no config.json; name the folder of a Hugging Face model", folder.string());
  for (const char* name : {"config.json", "tokenizer_config.json"})
    if (const fs::path file = folder / name; fs::exists(file))
      if (const Json json = read_json(file); json.is_object() && json.contains("auto_map"))
        throw Error(
            "{}: wants to run code of the model's own (auto_map), which HAQA does not; remove that key where "
            "the model works without it",
            file.string());
  if (!has_weights(folder, ".safetensors") && !has_weights(folder, ".bin"))
    throw Error("{}: holds no weights (*.safetensors); download the whole model", folder.string());
}

/// What the GGUF will need at most: every number in the type, and a vocabulary.
uint64_t bytes_needed(const fs::path& folder, uint64_t bytes_of_number) {
  constexpr uint64_t kVocabulary = 20'000'000;
  const bool safe = has_weights(folder, ".safetensors");
  uint64_t bytes = kVocabulary;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (safe && entry.path().extension() == ".safetensors") {
      const SafetensorsFile weights(entry.path());  // a download that broke off is found here
      for (const auto& [name, tensor] : weights.tensors())
        bytes += static_cast<uint64_t>(tensor.elements()) * bytes_of_number;
    } else if (!safe && entry.path().extension() == ".bin") {
      bytes += entry.file_size() / 2 * bytes_of_number;
    }
  }
  return bytes;
}

/// 0.42 of "Writing:  42%|####".
std::optional<double> share_in(std::string_view line) {
  if (!line.starts_with("Writing:")) return std::nullopt;
  line.remove_prefix(std::string_view("Writing:").size());
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  int percent = 0;
  const auto [end, fault] = std::from_chars(line.data(), line.data() + line.size(), percent);
  if (fault != std::errc() || end == line.data() + line.size() || *end != '%') return std::nullopt;
  return percent / 100.0;
}

/// The last words of the converter, for the case that it fails.
class Tail {
 public:
  void add(std::string_view line) {
    text_ += std::string(line) + "\n";
    if (text_.size() > 2 * kKept) text_.erase(0, text_.size() - kKept);
  }
  std::string telling() const {
    std::string line = telling_line(text_, 400);
    if (const std::string_view prefix = "ERROR:hf-to-gguf:"; line.starts_with(prefix)) line.erase(0, prefix.size());
    return one_line(line, 400);
  }

 private:
  static constexpr size_t kKept = 64 << 10;
  std::string text_;
};

}  // namespace

fs::path converter_folder() {
  const fs::path folder = (fs::path(HAQA_LLAMA_MODELS_DIR) / "..").lexically_normal();
  if (!fs::exists(folder / "convert_hf_to_gguf.py"))
    throw Error("{}: holds no convert_hf_to_gguf.py; build HAQA with llama.cpp's source, as ./setup.sh does",
                folder.string());
  return folder;
}

fs::path converter_python(Progress& progress) {
  return python_of({"converter-torch2.13.0-transformers4.57.6", "llama.cpp's converter", make_environment}, progress);
}

void convert_folder(const fs::path& folder, std::string_view type, const fs::path& file, Progress& progress) {
  check_folder(folder);
  require_space(file.parent_path(), bytes_needed(folder, type == "f32" ? 4 : 2), "the model");
  const fs::path script = converter_folder() / "convert_hf_to_gguf.py", python = converter_python(progress);
  PendingFile pending(file);
  Command command{{python, "-c", kRunner, script, folder, "--outfile", pending.path(), "--outtype", std::string(type)}};
  command.environment = {{"HF_HUB_OFFLINE", "1"}, {"PYTHONUNBUFFERED", "1"}, {"PYTHONWARNINGS", "ignore"}};
  progress.step(fmt::format("converting {} to {}", folder.string(), type));
  Tail tail;
  const ProcessResult result = run_process(command, [&](std::string_view line) {
    tail.add(line);
    if (const auto share = share_in(line)) progress.update(*share);
  });
  if (!result.ok())
    throw Error("{}: llama.cpp's converter cannot convert it ({})", folder.string(),
                result.end == ProcessEnd::exited ? tail.telling() : result.describe());
  pending.commit();
  progress.done();
}

}  // namespace haqa
