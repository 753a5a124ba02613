#include "training/checkpoint_saver.h"

#include <chrono>

#include "base/file.h"

namespace echo {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

CheckpointSaver::Saved write(const CheckpointSaver::Settings& settings, const CheckpointContent& content,
                             Clock::time_point start) {
  sync_file(settings.log);
  CheckpointSaver::Saved saved;
  saved.folder = save_checkpoint(settings.output_dir, content, settings.keep);
  saved.written = seconds_since(start);
  return saved;
}

}  // namespace

CheckpointSaver::CheckpointSaver(Settings settings, std::function<void(const Saved&)> report)
    : settings_(std::move(settings)), report_(std::move(report)) {}

void CheckpointSaver::save(const CheckpointContent& content) {
  const auto start = Clock::now();
  wait();
  if (!settings_.in_background) {
    Saved saved = write(settings_, content, start);
    saved.waited = saved.written;
    return report_(saved);
  }
  content_ = content;
  content_.weights = weights_.renew(describe(content.weights), provider_of(content.weights));
  content_.moment_provider = provider_of(moments_.renew(content.moments, content.moment_provider));
  const double waited = seconds_since(start);
  writing_ = std::async(std::launch::async, [this, start, waited] {
    Saved saved = write(settings_, content_, start);
    saved.waited = waited;
    return saved;
  });
}

void CheckpointSaver::report_finished() {
  if (writing_.valid() && writing_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) wait();
}

void CheckpointSaver::wait() {
  if (writing_.valid()) report_(writing_.get());
}

}  // namespace echo
