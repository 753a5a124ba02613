#include "data/jsonl_source.h"

#include <gtest/gtest.h>

#include "data/byte_reader.h"
#include "data/corpus_source.h"
#include "data/zstd_reader.h"
#include "tests/data/corpus_support.h"
#include "tests/test_support.h"

namespace echo {
namespace {

constexpr double kAnyFraction = 1.0;

TEST(JsonlSourceTest, SkipsAndCountsBadRecordsByReason) {
  TemporaryFolder folder;
  const std::string lines =
      json_line("one") + "{\"text\": \"cut off\n" + "\n   \n" + "{\"meta\": {}}\n" + "{\"text\": 3}\n" +
      "{\"text\": \"bad \xFF byte\"}\n" + "[1, 2]\n" + "{\"text\": \"\"}\n" + "{\"text\": \"\\ud800\"}\n" +
      "{\"meta\": {\"text\": \"not this\"}, \"other\": [{\"text\": \"nor this\"}]}\n" +
      "{\"text\": \"two\", \"x\": {\"redpajama_set_name\": \"no\"}}\r\n" + "{\"text\": \"three\"} trailing\n" +
      std::string(100000, '[') + "\n" + "{\"text\": \"last, without a newline\"}";
  for (const char* name : {"a.jsonl", "a.jsonl.zst"}) {
    write_corpus_file(folder / name, lines);
    JsonlSource source(local_data_file(folder / name), SetFilter());
    EXPECT_EQ(all_texts(source), (std::vector<std::string>{"one", "two", "last, without a newline"}));
    const SkipCounts counts = source.counts();
    EXPECT_EQ(counts.records, 13);
    EXPECT_EQ(counts.documents, 3);
    EXPECT_EQ(counts.damaged_json, 4);  // cut off, lone surrogate, trailing text, open brackets
    EXPECT_EQ(counts.missing_text, 4);  // no text, a number, an array, text elsewhere
    EXPECT_EQ(counts.invalid_utf8, 1);
    EXPECT_EQ(counts.empty_text, 1);
    EXPECT_EQ(
        counts.describe(),
        "9 of 13 records are bad: 4 damaged JSON, 4 without a text field, 1 invalid UTF-8, 1 with an empty text (not bad)");
  }
}

TEST(JsonlSourceTest, FiltersOnTheSetNameWithAndWithoutPrefix) {
  TemporaryFolder folder;
  write_corpus_file(folder / "a.jsonl",
                    json_line("book", "RedPajamaBook") + json_line("web", "RedPajamaC4") + "{\"text\": \"none\"}\n");
  for (const char* wanted : {"Book", "RedPajamaBook"}) {
    JsonlSource source(local_data_file(folder / "a.jsonl"), SetFilter({wanted}));
    Document document;
    ASSERT_TRUE(source.next(document));
    EXPECT_EQ(document.text, "book");
    EXPECT_EQ(document.set_name, "RedPajamaBook");
    EXPECT_FALSE(source.next(document));
    EXPECT_EQ(source.counts().other_sets, 2);
    EXPECT_EQ(source.counts().bad(), 0);
  }
}

TEST(JsonlSourceTest, GoesOnFromAnyPosition) {
  TemporaryFolder folder;
  const auto texts = made_up_texts(50, 20, 1);
  write_corpus_file(folder / "a.jsonl.zst", json_lines(texts));
  for (size_t start = 0; start <= texts.size(); start += 7) {
    JsonlSource source(local_data_file(folder / "a.jsonl.zst"), SetFilter());
    all_texts(source);
    source.restore({int64_t(start), -1});
    EXPECT_EQ(all_texts(source), std::vector<std::string>(texts.begin() + long(start), texts.end()));
  }
}

TEST(JsonlSourceTest, RestoringASeekablePlainFileReadsNothingBeforeThePosition) {
  const auto texts = made_up_texts(6000, 40, 4);
  const std::string lines = json_lines(texts);
  ASSERT_GT(lines.size(), size_t{1} << 19) << "several buffers";
  JsonlSource source(memory_file("a.jsonl", lines), SetFilter());
  Document document;
  for (size_t read = 0; read < texts.size(); ++read) {
    const SourcePosition before = source.position();
    ASSERT_TRUE(source.next(document));
    if (read % 1000 != 7) continue;
    ASSERT_EQ(before.record, int64_t(read));
    for (const SourcePosition& position : {before, source.position()}) {
      const auto log = std::make_shared<ReadLog>();
      JsonlSource resumed(memory_file("a.jsonl", lines, log), SetFilter());
      resumed.restore(position);
      EXPECT_EQ(all_texts(resumed), std::vector<std::string>(texts.begin() + long(position.record), texts.end()));
      EXPECT_EQ(resumed.counts().records, int64_t(texts.size()) - position.record);
      EXPECT_EQ(log->bytes, int64_t(lines.size()) - position.byte);
    }
  }
}

TEST(JsonlSourceTest, TheByteOfAPositionDecidesWhereItHasOne) {
  TemporaryFolder folder;
  const auto texts = made_up_texts(50, 20, 1);
  for (const char* name : {"a.jsonl", "a.jsonl.zst"}) {
    write_corpus_file(folder / name, json_lines(texts));
    JsonlSource source(local_data_file(folder / name), SetFilter());
    Document document;
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(source.next(document));
    const SourcePosition after_twenty = source.position();
    source.restore({3, after_twenty.byte});
    EXPECT_EQ(source.position(), (SourcePosition{3, after_twenty.byte}));
    ASSERT_TRUE(source.next(document));
    EXPECT_EQ(document.text, texts[20]) << "records are not counted";
    source.restore({2, -1});
    ASSERT_TRUE(source.next(document));
    EXPECT_EQ(document.text, texts[2]) << "a position of an earlier version has no byte";
    source.restore({20, -1});
    EXPECT_EQ(source.position(), after_twenty) << "counting finds the byte again";
  }
}

TEST(JsonlSourceTest, ReadsFromAnyReaderAndDecompressesByTheName) {
  const auto texts = made_up_texts(20, 9, 5);
  JsonlSource plain(memory_file("hub/a.jsonl", json_lines(texts)), SetFilter());
  EXPECT_EQ(all_texts(plain), texts);
  JsonlSource compressed(memory_file("hub/a.jsonl.zst", compress_zstd(json_lines(texts))), SetFilter());
  EXPECT_EQ(all_texts(compressed), texts);
}

TEST(ByteReaderTest, SkippingAFileOrCompressedDataReachesTheSameByteAsReading) {
  TemporaryFolder folder;
  std::string content;
  for (int i = 0; i < 100'000; ++i) content += std::to_string(i);
  for (const char* name : {"a", "a.zst"}) {
    write_corpus_file(folder / name, content);
    const DataFile file = local_data_file(folder / name);
    for (const size_t skipped : {size_t{0}, size_t{1}, size_t{300'000}, content.size(), content.size() + 10}) {
      const std::unique_ptr<ByteReader> reader = open_content(file);
      reader->skip(int64_t(skipped));
      std::string rest, part(70'000, '\0');
      while (const size_t count = reader->read(part.data(), part.size())) rest.append(part, 0, count);
      EXPECT_EQ(rest, content.substr(std::min(skipped, content.size()))) << name << " from byte " << skipped;
    }
  }
}

TEST(LineReaderTest, PassesOverLinesThatAreTooLongInBoundedMemory) {
  TemporaryFolder folder;
  write_corpus_file(folder / "a.txt", "short\n" + std::string(1'000'000, 'x') + "\nafter\n" + std::string(11, 'y'));
  LineReader reader(std::make_unique<FileReader>(folder / "a.txt"), 10);
  std::string line;
  EXPECT_EQ(reader.next(line), LineReader::Result::line);
  EXPECT_EQ(line, "short");
  EXPECT_EQ(reader.next(line), LineReader::Result::too_long);
  EXPECT_LE(line.capacity(), size_t{1} << 19);
  EXPECT_EQ(reader.next(line), LineReader::Result::line);
  EXPECT_EQ(line, "after");
  EXPECT_EQ(reader.next(line), LineReader::Result::too_long);
  EXPECT_EQ(reader.next(line), LineReader::Result::end);
}

TEST(ZstdReaderTest, ReadsSeveralFramesAsOneStream) {
  TemporaryFolder folder;
  const auto texts = made_up_texts(3000, 40, 2);
  const std::string lines = json_lines(texts), half = lines.substr(0, lines.size() / 2);
  write_file_atomically(folder / "a.jsonl.zst",
                        compress_zstd(half) + compress_zstd("") + compress_zstd(lines.substr(half.size())));
  JsonlSource source(local_data_file(folder / "a.jsonl.zst"), SetFilter());
  EXPECT_EQ(all_texts(source), texts);
}

TEST(ZstdReaderTest, TruncationAndDamageNameTheFileAndTheOffset) {
  TemporaryFolder folder;
  const std::string whole = compress_zstd(json_lines(made_up_texts(3000, 40, 3)));
  const auto message_for = [&](const std::string& content) {
    write_file_atomically(folder / "a.jsonl.zst", content);
    return error_message(ExitCode::bad_data, [&] {
      JsonlSource source(local_data_file(folder / "a.jsonl.zst"), SetFilter());
      all_texts(source);
    });
  };
  for (const size_t size : {size_t{1}, size_t{5}, whole.size() / 2, whole.size() - 1}) {
    const std::string message = message_for(whole.substr(0, size));
    EXPECT_NE(message.find("a.jsonl.zst: truncated: the file ends at byte " + std::to_string(size)), std::string::npos)
        << message;
  }
  std::string damaged = whole;
  damaged[damaged.size() / 2] = char(damaged[damaged.size() / 2] ^ 0x55);  // found by the block decoder or the frame's checksum
  EXPECT_NE(message_for(damaged).find("a.jsonl.zst: damaged at byte "), std::string::npos);
  EXPECT_NE(message_for(whole + "garbage").find("damaged at byte "), std::string::npos);
  EXPECT_NE(message_for("{\"text\": \"not compressed at all\"}\n").find("damaged at byte 0"), std::string::npos);
}

TEST(CorpusSourceTest, StopsWithTheCountsOnceTooMuchIsBad) {
  TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 300; ++i) lines += i % 10 == 9 ? "damaged\n" : json_line("text " + std::to_string(i));
  write_corpus_file(folder / "a.jsonl", lines);
  CorpusSource tolerant(folder.path().string(), {local_data_file(folder / "a.jsonl")}, SetFilter(), 0.1);
  EXPECT_EQ(all_texts(tolerant).size(), 270u);
  CorpusSource strict("my data", {local_data_file(folder / "a.jsonl")}, SetFilter(), 0.05);
  const std::string message = error_message(ExitCode::bad_data, [&] { all_texts(strict); });
  expect_contains(message, "my data: too much bad data (max_bad_fraction is 0.05): 10 of 10");
  expect_contains(message, "10 damaged JSON");
  EXPECT_LE(strict.counts().records, 101) << "judged at the first hundred records, not at the end";
}

TEST(CorpusSourceTest, FewRecordsAreJudgedAtTheEnd) {
  TemporaryFolder folder;
  write_corpus_file(folder / "a.jsonl", "damaged\n" + json_line("good"));
  CorpusSource source("d", {local_data_file(folder / "a.jsonl")}, SetFilter(), 0.4);
  Document document;
  EXPECT_TRUE(source.next(document));
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { source.next(document); }).find("1 of 2 records"), std::string::npos);
}

TEST(CorpusSourceTest, GoesOnFromAnyPositionInAnyFile) {
  TemporaryFolder folder;
  std::vector<DataFile> files;
  std::vector<std::string> texts;
  for (int f = 0; f < 4; ++f) {
    const auto some = f == 2 ? std::vector<std::string>{} : made_up_texts(9, 5, uint64_t(f));
    const fs::path path = folder / (std::to_string(f) + (f % 2 ? ".jsonl" : ".jsonl.zst"));
    write_corpus_file(path, "damaged\n" + json_lines(some));
    files.push_back(local_data_file(path));
    texts.insert(texts.end(), some.begin(), some.end());
  }
  CorpusSource source("d", files, SetFilter(), kAnyFraction);
  Document document;
  for (size_t read = 0; read < texts.size(); ++read) {
    ASSERT_TRUE(source.next(document));
    CorpusSource resumed("d", files, SetFilter(), kAnyFraction);
    resumed.set_counts(source.counts());
    resumed.restore(source.position());
    EXPECT_EQ(resumed.counts(), source.counts());
    EXPECT_EQ(all_texts(resumed), std::vector<std::string>(texts.begin() + long(read) + 1, texts.end()));
    EXPECT_EQ(resumed.counts().records, int64_t(texts.size()) + 4);
  }
}

}  // namespace
}  // namespace echo
