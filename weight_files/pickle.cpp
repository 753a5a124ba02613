#include "weight_files/pickle.h"

#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "weight_files/pickle_operations.h"

namespace echo {
namespace {

using namespace pickle;

// Far above the needs of the largest models: a state dict has about 20 values per tensor.
constexpr size_t kMaxValues = 1'000'000;
constexpr uint64_t kMaxText = 1 << 20;

enum class Kind : uint8_t {
  none,
  boolean,
  integer,
  real,
  text,
  tuple,
  list,
  dict,
  storage_type,
  rebuild_tensor,
  rebuild_parameter,
  ordered_dict_type,
  storage,
  tensor,
};

std::string_view name_of(Kind kind) {
  constexpr std::string_view names[] = {"None",
                                        "a bool",
                                        "an int",
                                        "a float",
                                        "a text",
                                        "a tuple",
                                        "a list",
                                        "a dict",
                                        "a storage type",
                                        "_rebuild_tensor_v2",
                                        "_rebuild_parameter",
                                        "OrderedDict",
                                        "a storage",
                                        "a tensor"};
  return names[size_t(kind)];
}

// A small value contains its number. Other values contain an index into the machine's tables. So a value that contains itself
// can be freed like any other.
struct Value {
  Kind kind = Kind::none;
  int64_t number = 0;
};

struct PickledStorage {
  StoredType type;
  std::string key;
  int64_t elements;
};

class Machine {
 public:
  Machine(std::span<const std::byte> pickle, std::string_view source) : pickle_(pickle), source_(source) {}

  std::vector<PickledTensor> run() {
    while (step()) {
    }
    const Value top = pop();
    if (top.kind != Kind::dict) refuse("contains ", name_of(top.kind), ", expected the dict of a model's tensors");
    const std::vector<Value>& items = sequences_[size_t(top.number)];
    std::vector<PickledTensor> result;
    for (size_t i = 0; i < items.size(); i += 2) {
      if (items[i].kind != Kind::text) refuse("a key of the state dict is ", name_of(items[i].kind), ", expected a text");
      const std::string& name = texts_[size_t(items[i].number)];
      if (items[i + 1].kind != Kind::tensor) refuse("entry ", name, " is ", name_of(items[i + 1].kind), ", expected a tensor");
      PickledTensor tensor = tensors_[size_t(items[i + 1].number)];
      tensor.name = name;
      result.push_back(std::move(tensor));
    }
    return result;
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ExitCode::bad_data, source_, ": ", parts..., " (byte ", at_, " of the pickle)");
  }

  // ---- input
  std::span<const std::byte> take(uint64_t count) {
    if (count > pickle_.size() - at_) refuse("the pickle ends early");
    const auto result = pickle_.subspan(at_, count);
    at_ += count;
    return result;
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string text(uint64_t length) {
    if (length > kMaxText) refuse("a text of ", length, " bytes");
    const auto bytes = take(length);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::string line() {
    std::string result;
    for (char c; (c = char(number<uint8_t>())) != '\n';) {
      if (result.size() == 256) refuse("the name of a global has over 256 bytes");
      result += c;
    }
    return result;
  }

  // ---- stack
  void push(Value value) {
    if (stack_.size() >= kMaxValues) refuse("over ", kMaxValues, " values on the stack");
    stack_.push_back(value);
  }
  Value pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) refuse("a value is taken from an empty stack");
    const Value value = stack_.back();
    stack_.pop_back();
    return value;
  }
  Value pop(Kind kind, std::string_view what) {
    const Value value = pop();
    if (value.kind != kind) refuse(what, " is ", name_of(value.kind), ", expected ", name_of(kind));
    return value;
  }
  std::vector<Value> pop_to_mark() {
    if (marks_.empty()) refuse("a mark is missing");
    std::vector<Value> values(stack_.begin() + std::ptrdiff_t(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return values;
  }
  void count_object() {
    if (++objects_ > kMaxValues) refuse("over ", kMaxValues, " objects");
  }
  void push_sequence(Kind kind, std::vector<Value> values) {
    count_object();
    sequences_.push_back(std::move(values));
    push({kind, int64_t(sequences_.size()) - 1});
  }
  void push_tuple_of(size_t count) {
    std::vector<Value> values(count);
    for (size_t i = count; i-- > 0;) values[i] = pop();
    push_sequence(Kind::tuple, std::move(values));
  }
  void push_text(std::string value) {
    count_object();
    texts_.push_back(std::move(value));
    push({Kind::text, int64_t(texts_.size()) - 1});
  }
  // Adds values to the container that is now on top of the stack.
  void extend_top(Kind kind, const std::vector<Value>& values) {
    const Value container = pop(kind, "what is added to");
    if (kind == Kind::dict && values.size() % 2 != 0) refuse("a key without a value");
    std::vector<Value>& items = sequences_[size_t(container.number)];
    items.insert(items.end(), values.begin(), values.end());
    push(container);
  }

  // ---- memo
  void remember(uint32_t slot) {
    if (slot >= kMaxValues) refuse("memo slot ", slot);
    const Value value = pop();
    memo_[slot] = value;
    push(value);
  }
  void recall(uint32_t slot) {
    const auto found = memo_.find(slot);
    if (found == memo_.end()) refuse("memo slot ", slot, " is empty");
    push(found->second);
  }

  // ---- globals and calls
  void push_global(const std::string& module, const std::string& name) {
    if (module == "torch._utils" && name == "_rebuild_tensor_v2") return push({Kind::rebuild_tensor, 0});
    if (module == "torch._utils" && name == "_rebuild_parameter") return push({Kind::rebuild_parameter, 0});
    if (module == "collections" && name == "OrderedDict") return push({Kind::ordered_dict_type, 0});
    if (module == "torch")
      for (const auto& [type, storage] : kPickleStorages)
        if (name == storage) return push({Kind::storage_type, int64_t(type)});
    refuse("the pickle asks for the global ", module, ".", name,
           ", which a file of weights does not need; it may be hostile, and was not run");
  }

  const Value& argument(const std::vector<Value>& values, size_t index, Kind kind, std::string_view what) const {
    if (values[index].kind != kind) refuse(what, " is ", name_of(values[index].kind), ", expected ", name_of(kind));
    return values[index];
  }
  int64_t natural(const Value& value, std::string_view what) const {
    if (value.kind != Kind::integer) refuse(what, " is ", name_of(value.kind), ", expected an int");
    if (value.number < 0) refuse(what, " is negative: ", value.number);
    return value.number;
  }
  std::vector<int64_t> naturals(const Value& tuple, std::string_view what) const {
    std::vector<int64_t> result;
    for (const Value& value : sequences_[size_t(tuple.number)]) result.push_back(natural(value, what));
    return result;
  }

  void load_storage() {
    const Value id = pop(Kind::tuple, "a persistent id");
    const std::vector<Value>& parts = sequences_[size_t(id.number)];
    if (parts.size() != 5 || parts[0].kind != Kind::text || texts_[size_t(parts[0].number)] != "storage")
      refuse("a persistent id is not that of a storage");
    const auto type = StoredType(argument(parts, 1, Kind::storage_type, "the type of a storage").number);
    const std::string& key = texts_[size_t(argument(parts, 2, Kind::text, "the key of a storage").number)];
    argument(parts, 3, Kind::text, "the device of a storage");
    count_object();
    storages_.push_back({type, key, natural(parts[4], "the size of a storage")});
    push({Kind::storage, int64_t(storages_.size()) - 1});
  }

  // arguments: storage, offset, extents, strides, requires_grad, hooks and, from some versions, metadata
  void rebuild_tensor(const std::vector<Value>& arguments) {
    if (arguments.size() != 6 && arguments.size() != 7) refuse("_rebuild_tensor_v2 with ", arguments.size(), " arguments");
    const PickledStorage& storage = storages_[size_t(argument(arguments, 0, Kind::storage, "a tensor's storage").number)];
    PickledTensor tensor;
    tensor.type = storage.type;
    tensor.storage_key = storage.key;
    tensor.storage_elements = storage.elements;
    tensor.offset = natural(arguments[1], "a tensor's offset");
    tensor.extents = naturals(argument(arguments, 2, Kind::tuple, "a tensor's shape"), "an extent");
    tensor.strides = naturals(argument(arguments, 3, Kind::tuple, "a tensor's strides"), "a stride");
    if (tensor.extents.size() != tensor.strides.size())
      refuse("a tensor has ", tensor.extents.size(), " extents and ", tensor.strides.size(), " strides");
    count_object();
    tensors_.push_back(std::move(tensor));
    push({Kind::tensor, int64_t(tensors_.size()) - 1});
  }

  void reduce() {
    const Value arguments_tuple = pop(Kind::tuple, "the arguments of a call");
    const std::vector<Value> arguments = sequences_[size_t(arguments_tuple.number)];
    const Value callee = pop();
    switch (callee.kind) {
      case Kind::rebuild_tensor:
        return rebuild_tensor(arguments);
      case Kind::rebuild_parameter:
        if (arguments.size() != 3) refuse("_rebuild_parameter with ", arguments.size(), " arguments");
        return push(argument(arguments, 0, Kind::tensor, "a parameter's data"));
      case Kind::ordered_dict_type:
        if (!arguments.empty()) refuse("OrderedDict with arguments");
        return push_sequence(Kind::dict, {});
      default:
        refuse(name_of(callee.kind), " is called, which is not a function");
    }
  }

  void real() {  // its value is not used
    take(8);
    push({Kind::real, 0});
  }
  void long_integer() {
    const size_t length = number<uint8_t>();
    if (length > 8) refuse("an int of ", length, " bytes");
    const auto bytes = take(length);
    uint64_t value = 0;
    for (size_t i = 0; i < length; ++i) value |= uint64_t(bytes[i]) << (8 * i);
    if (length > 0 && length < 8 && (uint8_t(bytes[length - 1]) & 0x80u) != 0) value |= ~uint64_t{0} << (8 * length);
    push({Kind::integer, int64_t(value)});
  }

  void begin_mark() {
    if (marks_.size() >= kMaxValues) refuse("over ", kMaxValues, " marks");
    marks_.push_back(stack_.size());
  }
  void check_protocol() {
    if (const int protocol = number<uint8_t>(); protocol < 2 || protocol > 4) refuse("pickle protocol ", protocol);
  }
  void check_frame() {
    if (const auto length = number<uint64_t>(); length > pickle_.size() - at_) refuse("the pickle ends early");
  }
  void set_item() {
    const Value value = pop(), key = pop();
    extend_top(Kind::dict, {key, value});
  }
  void global_in_line() {
    const std::string module = line();
    push_global(module, line());
  }
  void global_on_stack() {
    const Value name = pop(Kind::text, "the name of a global"), module = pop(Kind::text, "the module of a global");
    push_global(texts_[size_t(module.number)].substr(0, 256), texts_[size_t(name.number)].substr(0, 256));
  }
  // Attributes of the OrderedDict: the versions of the modules, which are not used.
  void drop_attributes() {
    pop();
    push(pop(Kind::dict, "what gets attributes"));
  }

  struct Operation {
    uint8_t code;
    void (*run)(Machine&);
  };
  static std::span<const Operation> operations();

  // Runs one operation. Returns false after the last one.
  bool step() {
    const uint8_t code = number<uint8_t>();
    if (code == kStop) return false;
    for (const Operation& operation : operations())
      if (operation.code == code) {
        operation.run(*this);
        return true;
      }
    refuse("the pickle has the operation ", int(code), ", which a file of weights does not need");
  }

  std::span<const std::byte> pickle_;
  std::string source_;
  size_t at_ = 0;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;  // stack heights
  std::unordered_map<uint32_t, Value> memo_;
  size_t objects_ = 0;
  std::vector<std::string> texts_;
  std::vector<std::vector<Value>> sequences_;  // tuples, lists, and dicts as key, value, key, value
  std::vector<PickledStorage> storages_;
  std::vector<PickledTensor> tensors_;
};

std::span<const Machine::Operation> Machine::operations() {
  static constexpr Operation kOperations[] = {
      // the most frequent ones first, because the search uses this order
      {kBinInt1,
       [](Machine& m) {
         m.push({Kind::integer, m.number<uint8_t>()});
       }},
      {kBinInt2,
       [](Machine& m) {
         m.push({Kind::integer, m.number<uint16_t>()});
       }},
      {kBinInt,
       [](Machine& m) {
         m.push({Kind::integer, m.number<int32_t>()});
       }},
      {kLong1, [](Machine& m) { m.long_integer(); }},
      {kBinGet, [](Machine& m) { m.recall(m.number<uint8_t>()); }},
      {kBinPut, [](Machine& m) { m.remember(m.number<uint8_t>()); }},
      {kLongBinGet, [](Machine& m) { m.recall(m.number<uint32_t>()); }},
      {kLongBinPut, [](Machine& m) { m.remember(m.number<uint32_t>()); }},
      {kMemoize, [](Machine& m) { m.remember(uint32_t(m.memo_.size())); }},
      {kBinUnicode, [](Machine& m) { m.push_text(m.text(m.number<uint32_t>())); }},
      {kShortBinUnicode, [](Machine& m) { m.push_text(m.text(m.number<uint8_t>())); }},
      {kBinUnicode8, [](Machine& m) { m.push_text(m.text(m.number<uint64_t>())); }},
      {kMark, [](Machine& m) { m.begin_mark(); }},
      {kTuple, [](Machine& m) { m.push_sequence(Kind::tuple, m.pop_to_mark()); }},
      {kEmptyTuple, [](Machine& m) { m.push_sequence(Kind::tuple, {}); }},
      {kTuple1, [](Machine& m) { m.push_tuple_of(1); }},
      {kTuple2, [](Machine& m) { m.push_tuple_of(2); }},
      {kTuple3, [](Machine& m) { m.push_tuple_of(3); }},
      {kBinPersId, [](Machine& m) { m.load_storage(); }},
      {kReduce, [](Machine& m) { m.reduce(); }},
      {kNewFalse,
       [](Machine& m) {
         m.push({Kind::boolean, 0});
       }},
      {kNewTrue,
       [](Machine& m) {
         m.push({Kind::boolean, 1});
       }},
      {kNone,
       [](Machine& m) {
         m.push({Kind::none, 0});
       }},
      {kBinFloat, [](Machine& m) { m.real(); }},
      {kEmptyList, [](Machine& m) { m.push_sequence(Kind::list, {}); }},
      {kAppend, [](Machine& m) { m.extend_top(Kind::list, {m.pop()}); }},
      {kAppends, [](Machine& m) { m.extend_top(Kind::list, m.pop_to_mark()); }},
      {kEmptyDict, [](Machine& m) { m.push_sequence(Kind::dict, {}); }},
      {kSetItem, [](Machine& m) { m.set_item(); }},
      {kSetItems, [](Machine& m) { m.extend_top(Kind::dict, m.pop_to_mark()); }},
      {kGlobal, [](Machine& m) { m.global_in_line(); }},
      {kStackGlobal, [](Machine& m) { m.global_on_stack(); }},
      {kBuild, [](Machine& m) { m.drop_attributes(); }},
      {kProto, [](Machine& m) { m.check_protocol(); }},
      {kFrame, [](Machine& m) { m.check_frame(); }},
  };
  return kOperations;
}

}  // namespace

std::vector<PickledTensor> read_pickled_state_dict(std::span<const std::byte> pickle, std::string_view source) {
  return Machine(pickle, source).run();
}

}  // namespace echo
