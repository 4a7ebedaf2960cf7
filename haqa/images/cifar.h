#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/images/image_set.h"

namespace haqa {

/// Rows and columns of CIFAR's images.
constexpr size_t kCifarSide = 32;

/// Which of CIFAR-100's two labels is learnt: one of 100 classes, or one of 20 kinds of them.
enum class CifarLabels { fine, coarse };

/// Whether there are files of CIFAR's names in the folder.
bool is_cifar(const std::filesystem::path& folder);

/// Reads the binary form of CIFAR-10 (data_batch_1.bin and further ones, test_batch.bin, batches.meta.txt) or CIFAR-100
/// (train.bin, test.bin, fine_label_names.txt or coarse_label_names.txt), which are known by their files. There may be
/// any number of records, batches and up to 256 classes: as many as names. `labels` is for CIFAR-100.
/// Throws UsageError that names file and position: files that are missing or empty, a size that is no whole number of
/// records, labels without a name.
/// Source: https://www.cs.toronto.edu/~kriz/cifar.html
ImageData read_cifar(const std::filesystem::path& folder, CifarLabels labels = CifarLabels::fine);

/// Writes a set in memory, of 32 x 32 pixels, as a file of CIFAR-10's records or, with a coarse label for each image,
/// CIFAR-100's. Throws UsageError where sizes or labels do not fit the form, Error where the file cannot be written.
void write_cifar_records(const ImageSet& images, const std::filesystem::path& file,
                         const std::vector<int64_t>& coarse = {});

}  // namespace haqa
