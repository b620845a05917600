/* Kinova's SDK without an arm, for tests: it behaves as kinova-ros's README says. Its state is in the file FAKE_KINOVA.

The controller takes one point of its queue of 2,000 every 10 ms and moves by it; an empty queue is rest. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

typedef struct { char serial[20], model[20]; int version[3], type, id; } Device;
typedef struct { float joint[7], finger[3]; } Angles;
typedef struct {
  int type; float delay, cartesian[6], joint[7]; int hand_mode; float finger[3]; int has_limits, synchro; float limits[9];
} Point;
typedef struct {
  double position[10];             /* Degrees, and finger units. */
  int num_queued, most_queued, num_sent, num_erased, error, num_errors, is_open, has_control, hand_mode;
} State;

static volatile State *state;
static Point queue[2000];
static double last_s;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }

static int advance(void) {
  if (!state || !state->is_open) return 2101;
  for (; now() - last_s >= 0.01; last_s += 0.01) {
    if (!state->num_queued) continue;
    for (int i = 0; i < 10; i++)
      state->position[i] += 0.01 * (i < 7 ? queue[0].joint[i] : queue[0].finger[i - 7]);
    memmove(queue, queue + 1, sizeof(Point) * --state->num_queued);
  }
  return state->error ? state->error : 1;
}

int InitAPI(void) {
  int file = open(getenv("FAKE_KINOVA"), O_RDWR);
  state = mmap(0, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  state->is_open = 1;
  last_s = now();
  return 1;
}
int GetDevices(Device *devices, int *result) {
  strcpy(devices[0].serial, "PJ001");
  *result = advance();
  return *result == 1;
}
int SetActiveDevice(Device device) { return strcmp(device.serial, "PJ001") ? 1009 : advance(); }
int StartControlAPI(void) { state->has_control = 1; return advance(); }
int StopControlAPI(void) { state->has_control = 0; return advance(); }
int SetAngularControl(void) { return advance(); }
int CloseAPI(void) { int code = advance(); state->is_open = 0; return code; }
int EraseAllTrajectories(void) {
  int code = advance();
  if (code == 1) { state->num_queued = 0; state->num_erased++; }
  return code;
}
int SendAdvanceTrajectory(Point point) {
  int code = advance();
  if (code != 1) return code;
  if (point.type != 8 || point.has_limits || !state->has_control || state->num_queued == 2000) return 9999;
  queue[state->num_queued++] = point;
  if (state->num_queued > state->most_queued) state->most_queued = state->num_queued;
  state->hand_mode = point.hand_mode;
  state->num_sent++;
  return 1;
}
int GetAngularPosition(Angles *angles) {
  int code = advance();
  for (int i = 0; i < 7; i++) angles->joint[i] = state->position[i];
  for (int i = 0; i < 3; i++) angles->finger[i] = state->position[7 + i];
  return code;
}
int GetSystemErrorCount(unsigned int *count) { *count = state->num_errors; return advance(); }
