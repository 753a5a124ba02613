#include "data/data_loader.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "data/remote_data.h"
#include "data/shuffle.h"
#include "data/source_factory.h"

namespace echo {
namespace {

constexpr int64_t kTokensAhead = int64_t{1} << 20;

TrainingPacker make_training_packer(const DataSettings& settings, const Tokenizer& tokenizer, const DataCursor& start) {
  const DataPaths& paths = settings.paths;
  return TrainingPacker(settings, paths.training.text(), find_data_files(paths.training, paths.remote.get()),
                        paths.held_out_fraction, tokenizer, start);
}

// A whole block at least: the next block is made while the rows of this one are used.
int64_t rows_ahead(const DataSettings& settings) {
  return std::max(std::clamp<int64_t>(kTokensAhead / settings.sequence_length, 16, 4096), block_rows(settings));
}

void append_row(Batch& batch, Row&& row) {
  batch.inputs.insert(batch.inputs.end(), row.inputs.begin(), row.inputs.end());
  batch.labels.insert(batch.labels.end(), row.labels.begin(), row.labels.end());
  batch.first_key.insert(batch.first_key.end(), row.first_key.begin(), row.first_key.end());
  batch.valid_tokens += row.valid_tokens;
  batch.cursor = std::move(row.next);
  ++batch.rows;
}

}  // namespace

int64_t loader_bytes(const DataSettings& settings) {
  constexpr int64_t kToken = sizeof(int32_t), kOpenFile = int64_t{3} << 20;             // zstd's window of 2 MiB and buffers
  const int64_t T = settings.sequence_length, kept = settings.reset_attention ? 3 : 2;  // inputs, labels, first keys
  const int64_t block = block_rows(settings) * T;                                       // as documents and packed
  return kToken * (2 * block + kept * T * rows_ahead(settings)) + kOpenFile * interleaving(settings, 0).open_files;
}

DataLoader::DataLoader(const DataSettings& settings, const Tokenizer& tokenizer, const DataCursor& start)
    : DataLoader(make_training_packer(settings, tokenizer, start)) {}

DataLoader::DataLoader(TrainingPacker packer)
    : sequence_length_(packer.settings().sequence_length),
      packer_(std::move(packer)),
      capacity_(size_t(rows_ahead(packer_.settings()))),
      reader_([this](const std::stop_token& stop) { read_ahead(stop); }) {}

DataLoader::~DataLoader() {
  reader_.request_stop();
  // The thread may wait for a file of another machine.
  if (const auto& remote = packer_.settings().paths.remote) remote->stop();
}

void DataLoader::read_ahead(const std::stop_token& stop) {
  try {
    Row row;
    while (packer_.next(row, stop)) {
      std::unique_lock lock(mutex_);
      if (!has_room_.wait(lock, stop, [this] { return rows_.size() < capacity_; })) return;
      rows_.push_back(std::move(row));
      has_rows_.notify_one();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
    has_rows_.notify_one();
  }
}

bool DataLoader::wait_for_rows(int64_t rows, const std::function<bool()>& give_up) {
  const size_t needed = std::min(size_t(rows), capacity_);
  std::unique_lock lock(mutex_);
  while (rows_.size() < needed && !failure_) {
    if (give_up && give_up()) return false;
    const auto start = std::chrono::steady_clock::now();
    has_rows_.wait_for(lock, std::chrono::milliseconds(200), [&] { return rows_.size() >= needed || failure_; });
    wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return true;
}

Batch DataLoader::next_batch(int64_t rows) {
  ECHO_CHECK(rows > 0, "a batch of ", rows, " rows");
  Batch batch;
  batch.sequence_length = sequence_length_;
  batch.inputs.reserve(size_t(rows * sequence_length_));
  batch.labels.reserve(size_t(rows * sequence_length_));
  std::unique_lock lock(mutex_);
  while (batch.rows < rows) {
    if (rows_.empty() && !failure_) {
      const auto start = std::chrono::steady_clock::now();
      has_rows_.wait(lock, [this] { return !rows_.empty() || failure_; });
      wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    if (rows_.empty()) std::rethrow_exception(failure_);
    Row row = std::move(rows_.front());
    rows_.pop_front();
    has_room_.notify_one();
    append_row(batch, std::move(row));
  }
  return batch;
}

std::vector<Batch> held_out_batches(const DataSettings& settings, const Tokenizer& tokenizer, int64_t rows_per_batch,
                                    int64_t max_rows) {
  ECHO_CHECK(rows_per_batch > 0, "held-out batches of ", rows_per_batch, " rows");
  const DataPaths& paths = settings.paths;
  if (paths.validation.empty()) return {};
  HeldOutPacker packer(settings, paths.validation.text(), find_data_files(paths.validation, paths.remote.get()),
                       paths.held_out_fraction > 0 ? paths.held_out_fraction : 1.0, tokenizer);
  std::vector<Batch> batches;
  Row row;
  for (int64_t rows = 0; (max_rows == 0 || rows < max_rows) && packer.next(row); ++rows) {
    if (batches.empty() || batches.back().rows == rows_per_batch) {
      batches.emplace_back();
      batches.back().sequence_length = settings.sequence_length;
    }
    append_row(batches.back(), std::move(row));
  }
  if (batches.empty())
    fail(ExitCode::bad_data, paths.validation.text(), ": no held-out documents: ", packer.counts().describe(),
         paths.held_out_fraction > 0 ? concat("; validation_fraction is ", paths.held_out_fraction) : "");
  return batches;
}

}  // namespace echo
