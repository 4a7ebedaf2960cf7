#include "haqa/images/image_loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace {

/// Images that a thread takes at once: one file, whose decoding takes milliseconds, or so many in memory, which take
/// microseconds each.
constexpr size_t kPixelsAtOnce = 32;
/// Keeps the order of an epoch apart from the augmentation of its images.
constexpr uint64_t kOrderStream = 0, kAugmentationStream = 1;

size_t threads_of(int wanted) {
  if (wanted > 0) return static_cast<size_t>(wanted);
  return std::max(2u, std::thread::hardware_concurrency()) - 1;  // the caller has a core of its own
}

void require_good(const ImageSet& images, const std::vector<size_t>& indices, const LoaderOptions& o) {
  if (indices.empty())
    throw UsageError("the set has no images; check the folder, or keep another share for validation");
  for (const size_t i : indices)
    if (i >= images.size()) throw UsageError("there is no image {}; the set has {}", i, images.size());
  if (o.batch == 0) throw UsageError("a batch needs at least one image");
  if (o.drop_last && indices.size() < o.batch)
    throw UsageError("{} images do not fill one batch of {}; use smaller batches, or keep the last one", indices.size(),
                     o.batch);
  if (o.ahead == 0) throw UsageError("at least one batch has to be prepared ahead");
  if (!images.in_memory() && (o.view.size == 0 || o.view.resize < o.view.size))
    throw UsageError("images resized to {} have no middle of {} x {}; resize to at least as much", o.view.resize,
                     o.view.size, o.view.size);
  if (o.augmentation) {
    const Augmentation& a = *o.augmentation;
    if (images.in_memory() && a.padding > std::min(images.height, images.width))
      throw UsageError("{} pixels of padding leave nothing of images of {} x {}; use fewer", a.padding, images.height,
                       images.width);
    if (!(a.smallest_area > 0 && a.smallest_area <= 1))
      throw UsageError("{} is no share of an image; give one above 0 and at most 1", a.smallest_area);
  }
  for (const float deviation : o.normalization.deviation)
    if (!(deviation > 0)) throw UsageError("{} is no deviation of a channel; give one above 0", deviation);
}

/// A batch in preparation.
struct Slot {
  Batch batch;
  size_t begun = 0, finished = 0;  ///< images
  std::vector<size_t> damaged;     ///< places in the batch
  bool ready() const { return finished == batch.indices.size(); }
};

/// What a thread does next: images `from` to before `end` of a slot, which stays where it is until they are done.
struct Piece {
  Slot* slot = nullptr;
  size_t from = 0, end = 0;
};

template <typename T>
void erase_at(std::vector<T>& values, const std::vector<size_t>& places, size_t of_each) {
  size_t kept = places.front();
  for (size_t i = kept; i * of_each < values.size(); ++i) {
    if (std::binary_search(places.begin(), places.end(), i)) continue;
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(i * of_each), of_each,
                values.begin() + static_cast<std::ptrdiff_t>(kept * of_each));
    ++kept;
  }
  values.resize(kept * of_each);
}

/// Takes the damaged images out of a batch.
Batch finished_batch(Slot&& slot) {
  Batch batch = std::move(slot.batch);
  if (slot.damaged.empty()) return batch;
  std::sort(slot.damaged.begin(), slot.damaged.end());
  erase_at(batch.pixels, slot.damaged, batch.height * batch.width * 3);
  erase_at(batch.labels, slot.damaged, 1);
  erase_at(batch.indices, slot.damaged, 1);
  return batch;
}

}  // namespace

LoaderOptions LoaderOptions::for_training(size_t batch, Normalization normalization, Augmentation augmentation) {
  LoaderOptions options;
  options.batch = batch;
  options.normalization = normalization;
  options.augmentation = augmentation;
  return options;
}

LoaderOptions LoaderOptions::for_validation(size_t batch, Normalization normalization) {
  LoaderOptions options;
  options.batch = batch;
  options.normalization = normalization;
  options.shuffle = options.drop_last = false;
  return options;
}

class ImageLoader::Worker {
 public:
  Worker(const ImageSet& images, std::vector<size_t> indices, const LoaderOptions& options)
      : images_(images), indices_(std::move(indices)), o_(options) {
    require_good(images_, indices_, o_);
    height_ = images_.in_memory() ? images_.height : o_.view.size;
    width_ = images_.in_memory() ? images_.width : o_.view.size;
    next_batch_ = batches();
    try {
      for (size_t i = 0; i < threads_of(o_.threads); ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {  // no more are to be had: those there are, and the caller, do the work
    }
  }

  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
  }

  size_t batches() const {
    return o_.drop_last ? indices_.size() / o_.batch : (indices_.size() + o_.batch - 1) / o_.batch;
  }

  void start_epoch(uint64_t epoch, size_t first_batch) {
    std::unique_lock lock(mutex_);
    next_batch_ = batches();  // no more are begun, and of those in hand no more images
    for (Slot& slot : slots_) slot.begun = slot.batch.indices.size();
    changed_.wait(lock, [&] { return busy_ == 0; });
    while (!slots_.empty()) take_front();
    failure_ = nullptr;
    given_ = 0;
    order_ = indices_;
    if (o_.shuffle) {
      const std::vector<size_t> order = shuffled_indices(indices_.size(), o_.seed, 2 * epoch + kOrderStream);
      for (size_t i = 0; i < order.size(); ++i) order_[i] = indices_[order[i]];
    }
    augmentation_seed_ = mixed_seed(o_.seed, 2 * epoch + kAugmentationStream);
    next_batch_ = std::min(first_batch, batches());
    passed_over_ = taken_ = next_batch_;
    lock.unlock();
    changed_.notify_all();
  }

  std::optional<Batch> next() {
    std::unique_lock lock(mutex_);
    while (wait_for_front(lock)) {
      Batch batch = finished_batch(take_front());
      ++taken_;
      changed_.notify_all();  // there is room for another
      if (!batch.labels.empty()) {
        ++given_;
        return batch;
      }
      spare_.push_back(std::move(batch.pixels));
    }
    require_some_good();
    return std::nullopt;
  }

  size_t position() const {
    const std::lock_guard lock(mutex_);
    return taken_;
  }

  void recycle(Batch&& batch) {
    const std::lock_guard lock(mutex_);
    if (spare_.size() < o_.ahead) spare_.push_back(std::move(batch.pixels));
  }

  std::vector<DamagedImage> skipped() const {
    const std::lock_guard lock(mutex_);
    std::vector<DamagedImage> all;
    for (const auto& [index, reason] : damaged_) all.push_back({images_.files[index], reason});
    return all;
  }

 private:
  /// Where the caller would wait, it works. False at the epoch's end.
  bool wait_for_front(std::unique_lock<std::mutex>& lock) {
    while (true) {
      if (failure_) std::rethrow_exception(failure_);
      if (!slots_.empty() && slots_.front().ready()) return true;
      if (const Piece piece = claim(); piece.slot)
        do_piece(piece, lock);
      else if (slots_.empty())
        return false;
      else
        changed_.wait(lock, [&] { return failure_ || slots_.front().ready() || work_left(); });
    }
  }

  Slot take_front() {
    Slot slot = std::move(slots_.front());
    slots_.pop_front();
    return slot;
  }

  void require_some_good() {
    if (given_ > 0 || passed_over_ > 0 || damaged_.empty() || order_.empty()) return;
    const auto& [index, reason] = *damaged_.begin();
    throw Error("no image of the set can be used; {}: {}", images_.files[index].string(), reason);
  }

  bool work_left() const {
    const bool begun = std::any_of(slots_.begin(), slots_.end(),
                                   [](const Slot& slot) { return slot.begun < slot.batch.indices.size(); });
    return begun || (next_batch_ < batches() && slots_.size() < o_.ahead);
  }

  /// Images of the earliest batch that has some left, which may have to be begun; none where there is nothing to do.
  Piece claim() {
    if (failure_ || !work_left()) return {};
    auto slot =
        std::find_if(slots_.begin(), slots_.end(), [](const Slot& s) { return s.begun < s.batch.indices.size(); });
    if (slot == slots_.end()) {
      begin_batch();
      slot = std::prev(slots_.end());
    }
    const size_t from = slot->begun, at_once = images_.in_memory() ? kPixelsAtOnce : 1;
    slot->begun = std::min(from + at_once, slot->batch.indices.size());
    return {&*slot, from, slot->begun};
  }

  void begin_batch() {
    const size_t begin = next_batch_ * o_.batch, end = std::min(begin + o_.batch, order_.size());
    Slot slot;
    Batch& batch = slot.batch;
    batch.height = height_;
    batch.width = width_;
    batch.indices.assign(order_.begin() + static_cast<std::ptrdiff_t>(begin),
                         order_.begin() + static_cast<std::ptrdiff_t>(end));
    for (const size_t i : batch.indices) batch.labels.push_back(images_.labels[i]);
    if (!spare_.empty()) {
      batch.pixels = std::move(spare_.back());
      spare_.pop_back();
    }
    batch.pixels.resize(batch.indices.size() * height_ * width_ * 3);
    slots_.push_back(std::move(slot));
    ++next_batch_;
  }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stop_ || (!failure_ && work_left()); });
      if (stop_) return;
      if (const Piece piece = attempt_claim(); piece.slot) do_piece(piece, lock);
    }
  }

  /// Memory for a batch may be missing, which the caller of next() is to hear.
  Piece attempt_claim() noexcept {
    try {
      return claim();
    } catch (...) {
      failure_ = std::current_exception();
      changed_.notify_all();
      return {};
    }
  }

  void do_piece(const Piece& piece, std::unique_lock<std::mutex>& lock) {
    ++busy_;
    lock.unlock();
    std::vector<std::pair<size_t, std::string>> damaged;
    std::exception_ptr failure;
    try {
      for (size_t place = piece.from; place < piece.end; ++place) prepare(piece.slot->batch, place, damaged);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    for (auto& [place, reason] : damaged) {
      piece.slot->damaged.push_back(place);
      damaged_.emplace(piece.slot->batch.indices[place], std::move(reason));
    }
    piece.slot->finished += piece.end - piece.from;
    if (failure && !failure_) failure_ = failure;
    --busy_;
    if (piece.slot->ready() || failure_ || busy_ == 0) changed_.notify_all();
  }

  void prepare(Batch& batch, size_t place, std::vector<std::pair<size_t, std::string>>& damaged) const {
    const size_t values = height_ * width_ * 3, i = batch.indices[place];
    const std::span<float> out = std::span(batch.pixels).subspan(place * values, values);
    const Augmentation* const augmentation = o_.augmentation ? &*o_.augmentation : nullptr;
    const Draws draws(mixed_seed(augmentation_seed_, i));
    if (images_.in_memory()) {
      prepare_pixels(images_.pixels_of(i), height_, width_, o_.normalization, augmentation, draws, out);
      return;
    }
    try {
      prepare_jpeg(read_file(images_.files[i]), o_.view, o_.normalization, augmentation, draws, out);
    } catch (const NoMemoryError&) {
      throw;
    } catch (const Error& error) {
      damaged.emplace_back(place, error.what());
    }
  }

  const ImageSet& images_;
  const std::vector<size_t> indices_;
  const LoaderOptions o_;
  size_t height_ = 0, width_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<size_t> order_;           ///< of the epoch
  uint64_t augmentation_seed_ = 0;      ///< of the epoch
  size_t next_batch_ = 0;               ///< the first that is not begun
  size_t passed_over_ = 0, given_ = 0;  ///< batches of the epoch
  size_t taken_ = 0;                    ///< of them, those that are behind
  std::deque<Slot> slots_;              ///< begun and not yet given, in the order of the epoch; they do not move
  std::vector<std::vector<float>> spare_;
  std::map<size_t, std::string> damaged_;  ///< reasons, by the image's index
  std::exception_ptr failure_;
  size_t busy_ = 0;  ///< threads at a piece
  bool stop_ = false;
  std::vector<std::jthread> threads_;  ///< last, as they use the rest until they end
};

ImageLoader::ImageLoader(const ImageSet& images, std::vector<size_t> indices, const LoaderOptions& options)
    : worker_(std::make_unique<Worker>(images, std::move(indices), options)) {}
ImageLoader::~ImageLoader() = default;

size_t ImageLoader::batches() const {
  return worker_->batches();
}
void ImageLoader::start_epoch(uint64_t epoch, size_t first_batch) {
  worker_->start_epoch(epoch, first_batch);
}
std::optional<Batch> ImageLoader::next() {
  return worker_->next();
}
size_t ImageLoader::position() const {
  return worker_->position();
}
void ImageLoader::recycle(Batch&& batch) {
  worker_->recycle(std::move(batch));
}
std::vector<DamagedImage> ImageLoader::skipped() const {
  return worker_->skipped();
}

}  // namespace haqa
