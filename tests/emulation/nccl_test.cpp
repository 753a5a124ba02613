// The communicator for GPUs, with an emulated NCCL. Each rank is a thread.
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "communication/nccl_communicator.h"
#include "communication/thread_ranks.h"
#include "tensor/device_choice.h"
#include "tests/emulation/ranks.h"
#include "tests/test_support.h"
#include "tests/training/tiny_run.h"
#include "training/run_folder.h"
#include "training/trainer.h"

namespace echo {
namespace {

using Ranks = std::shared_ptr<Communicator>;

const Device kGpu{DeviceKind::cuda, 0};

void run_nccl_ranks(int world, const std::function<void(const Ranks&)>& body) {
  choose_device("cuda");
  const std::string id = new_nccl_id();
  cuda_emulation::run_ranks(world, [&](int rank) {
    omp_set_num_threads(1);
    body(make_nccl_communicator(std::make_shared<SingleProcess>(), id, rank, world, /*timeout=*/30));
  });
}

std::vector<float> host(const Tensor& values) { return values.to(Device{}).to_vector<float>(); }

Tensor numbers_of(const Ranks& ranks, int64_t elements) {
  std::vector<float> values;
  for (int64_t i = 0; i < elements; ++i) values.push_back(float(10 * i + ranks->rank()));
  return Tensor::from(values).to(kGpu);
}

TEST(CudaNcclTest, SumsScatteredSumsAndGatheredSlicesHaveTheSameBits) {
  for (const int64_t elements : {1, 4, 7, 9})  // with and without equally long slices
    run_nccl_ranks(3, [&](const Ranks& ranks) {
      const Tensor summed = numbers_of(ranks, elements), scattered = numbers_of(ranks, elements);
      const auto sum = ranks->start_all_reduce_sum(summed);
      const auto scatter = ranks->start_reduce_scatter_sum(scattered);
      scatter->wait();
      sum->wait();
      for (int64_t i = 0; i < elements; ++i) EXPECT_EQ(host(summed)[size_t(i)], float(30 * i + 3)) << i;
      const auto [begin, count] = slice_of_rank(elements, ranks->rank(), ranks->world());
      for (int64_t i = begin; i < begin + count; ++i) EXPECT_EQ(host(scattered)[size_t(i)], float(30 * i + 3)) << i;
      ranks->start_all_gather_slices(scattered)->wait();
      EXPECT_EQ(host(scattered), host(summed));
    });
}

TEST(CudaNcclTest, AnExchangeWaitsForComputationBeforeItAndItsResultComesLate) {
  run_nccl_ranks(2, [](const Ranks& ranks) {
    Tensor values = Tensor::zeros({4}, DType::f32, kGpu);
    values.copy_from(Tensor::full({4}, double(ranks->rank() + 1), DType::f32));  // the emulated device copies as late as it may
    const auto exchange = ranks->start_all_reduce_sum(values);
    EXPECT_EQ(host(values), std::vector<float>(4, float(ranks->rank() + 1)));
    exchange->wait();
    EXPECT_EQ(host(values), std::vector<float>(4, 3.0f));
  });
}

TEST(CudaNcclTest, MessagesNumbersAndTensorsOfMainMemoryAreExchanged) {
  run_nccl_ranks(3, [](const Ranks& ranks) {
    EXPECT_EQ(ranks->world(), 3);
    EXPECT_EQ(ranks->all_gather(std::string(size_t(9 * ranks->rank()), 'x')),
              (std::vector<std::string>{"", std::string(9, 'x'), std::string(18, 'x')}));
    EXPECT_EQ(sum_over_ranks(*ranks, int64_t{1} << (40 + ranks->rank())), int64_t{7} << 40);
    Tensor here = Tensor::full({5}, double(ranks->rank() + 1), DType::f32), there = here.to(kGpu);
    ranks->broadcast(here);
    ranks->broadcast(there);
    EXPECT_EQ(host(here), std::vector<float>(5, 1.0f));
    EXPECT_EQ(host(there), std::vector<float>(5, 1.0f));
    ranks->barrier();
  });
}

TEST(CudaNcclTest, CallsInAnotherOrderOrOfAnotherSizeAreAHangThatNamesBoth) {
  const auto message_of = [](const std::function<void(const Ranks&)>& body) {
    return error_message(ExitCode::unavailable, [&] { run_nccl_ranks(2, body); });
  };
  expect_contains(message_of([](const Ranks& ranks) {
                    const Tensor values = numbers_of(ranks, 8);
                    if (ranks->is_first()) ranks->start_all_gather_slices(values)->wait();
                    ranks->start_reduce_scatter_sum(values)->wait();
                  }),
                  "a hang: call 1 is ncclAllGather(4 float32) on rank 0 and ncclReduceScatter(4 float32) on rank 1");
  expect_contains(
      message_of([](const Ranks& ranks) { ranks->start_all_reduce_sum(numbers_of(ranks, 8 + 2 * ranks->rank()))->wait(); }),
      "a hang: call 1 is ncclReduceScatter(4 float32) on rank 0 and ncclReduceScatter(5 float32) on rank 1");
}

TEST(CudaNcclTest, ARankThatDoesNotComeEndsTheOthersAtTheTimeout) {
  const std::string message = error_message(ExitCode::unavailable, [] {
    run_nccl_ranks(2, [](const Ranks& ranks) {
      ranks->set_timeout(0.1);
      if (!ranks->is_first()) return;
      const std::string first = error_message(ExitCode::unavailable, [&] { ranks->barrier(); });
      ranks->barrier();  // the connection is gone, so this fails at once
    });
  });
  expect_contains(message, "exchange 1 (gathered slices of 2 i64)");
  expect_contains(message, "did not answer for 0.1 s (comm_timeout)");
}

// A process uses one GPU, so the second one is chosen in a process of its own.
TEST(CudaLocalRankDeathTest, EachProcessOfAMachineTakesItsGpu) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const ScopedEnvironment devices("CUDA_EMULATION_DEVICES", "2");
  for (const char* setting : {"auto", "cuda"}) {
    expect_contains(error_message(ExitCode::usage,
                                  [&] {
                                    choose_device(setting, {0, 4});
                                  }),
                    "4 processes on this machine, but 2 GPU(s)");
    EXPECT_EXIT(std::exit(choose_device(setting, {1, 2}).device == Device{DeviceKind::cuda, 1} ? 0 : 1),
                testing::ExitedWithCode(0), "");
  }
  expect_contains(error_message(ExitCode::usage, [] { choose_device("cuda:1", {0, 2}); }), "write device: cuda");
}

TEST(CudaNcclTest, ARankThatIsMissingAtTheStartIsNoticed) {
  choose_device("cuda");
  const std::string message = error_message(ExitCode::unavailable, [] {
    make_nccl_communicator(std::make_shared<SingleProcess>(), new_nccl_id(), 0, 2, /*timeout=*/0.1);
  });
  expect_contains(message, "connecting: another process did not answer");
}

// Two emulated GPUs beside one, with the same rows. f32: the order of sums differs, and the first steps of AdamW amplify it.
TEST(CudaNcclTest, TwoRanksTrainLikeOne) {
  const auto memory = memory_folder();
  const auto train = [&](int world) {
    TrainConfig config = tiny_pretraining(*memory / concat("ranks-", world));
    config.device = "cuda";
    config.report = false;
    config.per_device_train_batch_size = 1;
    config.gradient_accumulation_steps = 2 / world;
    config.eval_rows = 0;
    config.max_steps = 3;
    const ResolvedInputs inputs = resolve_inputs(config);
    const auto body = [&](const Ranks& ranks) {
      std::unique_ptr<RunRecorder> recorder = std::make_unique<RunRecorder>();
      if (ranks->is_first()) recorder = std::make_unique<RunFolder>(config);
      SetupOptions setup;
      setup.communicator = ranks;
      TrainingRun run = prepare_run(config, inputs, setup);
      Trainer(run, *recorder).train();
    };
    world == 1 ? body(std::make_shared<SingleProcess>()) : run_nccl_ranks(world, body);
    std::vector<double> losses;
    for (const nlohmann::json& line : TrainingLog::read(fs::path(config.output_dir) / "trainer_log.jsonl"))
      if (line["event"] == "train") losses.push_back(line["loss"]);
    return losses;
  };
  tiny_inputs();
  const std::vector<double> one = train(1), two = train(2);
  ASSERT_EQ(one.size(), 3u);
  ASSERT_EQ(two.size(), 3u);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(two[i], one[i], 1e-6 * one[i]) << "step " << i + 1;
}

}  // namespace
}  // namespace echo
