#include "communication/mpi_communicator.h"

#define OMPI_SKIP_MPICXX 1  // the C++ interface, which is not used, needs another library
#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "base/error.h"
#include "communication/host_communicator.h"
#include "communication/timeout.h"

namespace echo {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 30;  // of one broadcast, because MPI counts with int
// Between two looks at an exchange in the background. MPI's own waiting would keep a core busy that the caller needs.
constexpr std::chrono::microseconds kPause{50};

void check(int status, const char* operation) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail(ExitCode::unavailable, operation, ": ", std::string(text, size_t(length)));
}

class MpiCommunicator : public HostCommunicator {
 public:
  MpiCommunicator() {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    if (provided != MPI_THREAD_MULTIPLE)
      fail(ExitCode::device, "this MPI cannot be called from several threads (MPI_THREAD_MULTIPLE); Open MPI 4 can");
    // Errors become exceptions. MPI itself would end the process.
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &world_), "MPI_Comm_size");
    check(MPI_Comm_dup(MPI_COMM_WORLD, &background_), "MPI_Comm_dup");
  }
  ~MpiCommunicator() override {
    stop_background();
    MPI_Finalize();
  }

  int64_t rank() const override { return rank_; }
  int64_t world() const override { return world_; }
  std::vector<std::string> all_gather(const std::string& message) override {
    int length = int(message.size());
    std::vector<int> lengths(static_cast<size_t>(world_)), begins(lengths.size());
    MPI_Request request;
    check(MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, MPI_COMM_WORLD, &request), "MPI_Iallgather");
    wait(Line::caller, request);
    for (size_t i = 1; i < begins.size(); ++i) begins[i] = begins[i - 1] + lengths[i - 1];
    std::string joined(size_t(begins.back() + lengths.back()), '\0');
    check(MPI_Iallgatherv(message.data(), length, MPI_CHAR, joined.data(), lengths.data(), begins.data(), MPI_CHAR,
                          MPI_COMM_WORLD, &request),
          "MPI_Iallgatherv");
    wait(Line::caller, request);
    std::vector<std::string> messages;
    for (size_t i = 0; i < begins.size(); ++i) messages.push_back(joined.substr(size_t(begins[i]), size_t(lengths[i])));
    return messages;
  }
  void barrier() override {
    MPI_Request request;
    check(MPI_Ibarrier(MPI_COMM_WORLD, &request), "MPI_Ibarrier");
    wait(Line::caller, request);
  }
  void set_timeout(double seconds) override { timeout_ = seconds; }
  void end_job(int exit_code) override { MPI_Abort(MPI_COMM_WORLD, exit_code); }

 protected:
  void exchange_pieces(Line line, const std::byte* values, const Pieces& pieces, std::byte* parts) override {
    const Counts to = counts_of(pieces.of_rank);
    const int64_t own = pieces.of_rank[size_t(rank_)].count;
    std::vector<RankSlice> received;
    for (int64_t i = 0; i < world_; ++i) received.push_back({i * own, own});
    const Counts from = counts_of(received);
    MPI_Request request;
    check(MPI_Ialltoallv(values, to.counts.data(), to.begins.data(), type_of(pieces), parts, from.counts.data(),
                         from.begins.data(), type_of(pieces), communicator_of(line), &request),
          "MPI_Ialltoallv");
    wait(line, request);
  }
  void gather_pieces(Line line, std::byte* values, const Pieces& pieces) override {
    const Counts all = counts_of(pieces.of_rank);
    MPI_Request request;
    check(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, values, all.counts.data(), all.begins.data(), type_of(pieces),
                          communicator_of(line), &request),
          "MPI_Iallgatherv");
    wait(line, request);
  }
  void copy_from_first(void* bytes, int64_t count) override {
    for (int64_t begin = 0; begin < count; begin += kMostBytes) {
      MPI_Request request;
      check(MPI_Ibcast(static_cast<char*>(bytes) + begin, int(std::min(kMostBytes, count - begin)), MPI_BYTE, 0, MPI_COMM_WORLD,
                       &request),
            "MPI_Ibcast");
      wait(Line::caller, request);
    }
  }

 private:
  struct Counts {
    std::vector<int> counts, begins;
  };
  static Counts counts_of(const std::vector<RankSlice>& slices) {
    Counts result;
    for (const auto& [begin, count] : slices) {
      ECHO_CHECK(begin + count < int64_t{1} << 31, "MPI: an exchange of ", begin + count, " elements, expected below 2^31");
      result.counts.push_back(int(count));
      result.begins.push_back(int(begin));
    }
    return result;
  }
  // MPI only moves the elements, so their size is enough.
  static MPI_Datatype type_of(const Pieces& pieces) {
    return pieces.item == 2 ? MPI_UINT16_T : pieces.item == 4 ? MPI_UINT32_T : MPI_UINT64_T;
  }
  MPI_Comm communicator_of(Line line) const { return line == Line::caller ? MPI_COMM_WORLD : background_; }
  // MPI's own waiting has no limit of time.
  void wait(Line line, MPI_Request& request) const {
    const auto start = std::chrono::steady_clock::now();
    for (int done = 0;;) {
      check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (done != 0) return;
      check_timeout(start, timeout_);
      if (line == Line::background) std::this_thread::sleep_for(kPause);
    }
  }

  int rank_ = 0, world_ = 1;
  std::atomic<double> timeout_ = 0;      // seconds; 0: no limit
  MPI_Comm background_ = MPI_COMM_NULL;  // the same ranks, for exchanges in the background
};

}  // namespace

std::shared_ptr<Communicator> make_mpi_communicator() { return std::make_shared<MpiCommunicator>(); }

}  // namespace echo
