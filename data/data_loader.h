#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "data/data_settings.h"
#include "data/packer.h"
#include "tokenizer/tokenizer.h"

namespace echo {

// Rows of token ids, one after another: element (r, t) is at r * sequence_length + t.
struct Batch {
  int64_t rows = 0, sequence_length = 0;
  std::vector<int32_t> inputs,
      labels;                      // (rows, sequence_length); a label is kIgnoredLabel (-1) where nothing is to be predicted
  std::vector<int32_t> first_key;  // the same shape, index in the row; empty unless reset_attention
  int64_t valid_tokens = 0;        // labels that count
  DataCursor cursor;               // the position after this batch, from which a loader continues (training batches only)
};

// Training batches without end. A thread of its own reads and tokenizes ahead, up to about a million tokens or a block of
// shuffled rows. The batches depend
// on the packer alone, not on timing. Destroying the loader at any moment ends the thread and waits for
// it. Then nothing more is fetched for these settings either.
// One thread at a time may call next_batch.
class DataLoader {
 public:
  explicit DataLoader(TrainingPacker packer);
  // Finds the data of the settings and reads it from `start` on.
  // Throws Error when the data cannot be found (input_missing) or the start belongs to other data (bad_data).
  DataLoader(const DataSettings& settings, const Tokenizer& tokenizer, const DataCursor& start = {});
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  // Rethrows the exception that stopped the reading thread (Error: bad_data, io, ...), after all rows that were finished before
  // it.
  Batch next_batch(int64_t rows);

  // Waits until the next `rows` rows are ready, or reading has failed, which next_batch then says. Returns false when `give_up`
  // returns true meanwhile: it is asked a few times per second, and may be empty. Files of other machines can take long.
  bool wait_for_rows(int64_t rows, const std::function<bool()>& give_up);

  double wait_seconds() const { return wait_seconds_; }  // spent waiting for rows, in all

 private:
  void read_ahead(const std::stop_token& stop);

  int64_t sequence_length_;
  TrainingPacker packer_;  // used by the thread while it runs
  size_t capacity_;        // rows
  double wait_seconds_ = 0;

  std::mutex mutex_;
  std::condition_variable_any has_rows_, has_room_;
  std::deque<Row> rows_;  // guarded by mutex_, like the next member
  std::exception_ptr failure_;
  std::jthread reader_;  // last, so that it is joined before the members that it uses are destroyed
};

// Main memory that a loader takes, in bytes: the block of rows that it makes, the rows that are ready, and the open files.
// Documents that are larger than a block come on top.
int64_t loader_bytes(const DataSettings& settings);

// The held-out documents (settings.paths) in batches of `rows_per_batch` rows; the last may have fewer. At most `max_rows`
// rows (0: all). Empty when settings.paths names no held-out documents.
// Throws Error (bad_data) when there should be held-out documents and none is found; else as DataLoader and HeldOutPacker do.
std::vector<Batch> held_out_batches(const DataSettings& settings, const Tokenizer& tokenizer, int64_t rows_per_batch,
                                    int64_t max_rows);

}  // namespace echo
