#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/random.h"
#include "data/data_file.h"
#include "data/document_source.h"
#include "data/zstd_writer.h"
#include "tests/test_support.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/training.h"

namespace echo {

inline std::string json_line(const std::string& text, const std::string& set_name = "RedPajamaC4") {
  return nlohmann::json{{"text", text}, {"meta", {{"redpajama_set_name", set_name}}}}.dump() + "\n";
}

inline std::string json_lines(const std::vector<std::string>& texts) {
  std::string lines;
  for (const std::string& text : texts) lines += json_line(text);
  return lines;
}

inline void write_corpus_file(const fs::path& path, const std::string& lines) {
  fs::create_directories(path.parent_path());
  write_file(path, path.extension() == ".zst" ? compress_zstd(lines) : lines);
}

template <class Source>
std::vector<std::string> all_texts(Source& source) {
  std::vector<std::string> texts;
  Document document;
  while (source.next(document)) texts.push_back(document.text);
  return texts;
}

// `count` different texts of one to `longest` words.
inline std::vector<std::string> made_up_texts(int count, uint64_t longest, uint64_t seed) {
  const std::vector<std::string> words = {"river", "moon",  "cold",  "sings", "under",
                                          "glass", "seven", "walks", "amber", "quiet"};
  std::vector<std::string> texts;
  RandomSequence random(seed);
  for (int i = 0; i < count; ++i) {
    std::string text = "text " + std::to_string(i);
    for (uint64_t n = random.below(longest); n > 0; --n) text += " " + words[random.below(words.size())];
    texts.push_back(text);
  }
  return texts;
}

// Counts what is read from files of memory_file().
struct ReadLog {
  std::atomic<int64_t> bytes = 0;         // in total, without skipped bytes
  std::atomic<int64_t> open_readers = 0;  // now
  std::atomic<int64_t> threads = 0;       // that have read and still run
};

class MemoryReader : public ByteReader {
 public:
  MemoryReader(std::shared_ptr<const std::string> content, std::shared_ptr<ReadLog> log)
      : content_(std::move(content)), log_(std::move(log)) {
    ++log_->open_readers;
  }
  ~MemoryReader() override { --log_->open_readers; }
  MemoryReader(const MemoryReader&) = delete;
  MemoryReader& operator=(const MemoryReader&) = delete;

  size_t read(char* buffer, size_t capacity) override {
    thread_local std::unique_ptr<ReadingThread> thread;
    if (!thread || thread->log != log_) thread = std::make_unique<ReadingThread>(log_);
    const size_t count = std::min(capacity, content_->size() - position_);
    std::memcpy(buffer, content_->data() + position_, count);
    position_ += count;
    log_->bytes += int64_t(count);
    return count;
  }
  void skip(int64_t count) override { position_ = std::min(content_->size(), position_ + size_t(count)); }

 private:
  struct ReadingThread {  // lives as long as its thread
    explicit ReadingThread(std::shared_ptr<ReadLog> its_log) : log(std::move(its_log)) { ++log->threads; }
    ~ReadingThread() { --log->threads; }
    ReadingThread(const ReadingThread&) = delete;
    ReadingThread& operator=(const ReadingThread&) = delete;
    std::shared_ptr<ReadLog> log;
  };

  std::shared_ptr<const std::string> content_;
  std::shared_ptr<ReadLog> log_;
  size_t position_ = 0;
};

// A data file in memory, which can skip without reading.
inline DataFile memory_file(const std::string& name, const std::string& content,
                            const std::shared_ptr<ReadLog>& log = std::make_shared<ReadLog>()) {
  const auto shared = std::make_shared<const std::string>(content);
  return {name, int64_t(content.size()), [shared, log] { return std::make_unique<MemoryReader>(shared, log); }};
}

// A small tokenizer, so that these tests need no other files.
inline Tokenizer small_tokenizer(const fs::path& folder) {
  train_tokenizer(made_up_texts(200, 30, 99), 290, folder / "tokenizer.model");
  return Tokenizer(folder / "tokenizer.model");
}

}  // namespace echo
