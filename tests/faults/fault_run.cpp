#include "tests/faults/fault_run.h"

#include <omp.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/program.h"
#include "training/run_folder.h"
#include "training/trainer.h"

namespace echo {

void run_to_end(const TrainConfig& config) {
  omp_set_num_threads(1);
  RunFolder folder(config);
  SetupOptions setup;
  setup.checkpoint = folder.checkpoint_to_resume();
  TrainingRun run = prepare_run(config, resolve_inputs(config), setup);
  Trainer trainer(run, folder);
  if (setup.checkpoint) trainer.resume(*setup.checkpoint);
  trainer.train();
}

TrainConfig run_with_saves(const std::filesystem::path& output_dir, settings::Choice async_save) {
  TrainConfig config = tiny_pretraining(output_dir);
  config.data.sequence_length = 16;
  config.data.shuffle_tokens = 1024;  // each start reads a block
  config.max_steps = 8;
  config.save_steps = 2;
  config.save_total_limit = 1;
  config.async_save = async_save;
  return config;
}

int in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ECHO_CHECK(child >= 0, "fork failed");
  if (child == 0) {
    omp_set_num_threads(1);
    ::_exit(run_program([&] {
      body();
      return 0;
    }));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace echo
