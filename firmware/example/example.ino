// Two hobby servos driven by wpg over USB. Copy wpg_device.h and wpg_device.c next to this sketch.
// Boards: anything with 4 kB of RAM and a UART at 1 Mbaud, e.g. ESP32, Teensy, RP2040, Arduino Zero.
#include <Servo.h>

#include "wpg_device.h"

const int PINS[] = {9, 10};
const int NUM = 2;

// Names, order, limits, rate and watchdog as in the arm's TOML file.
const wpg_joint JOINTS[NUM] = {{"pan", -1.2f, 1.2f, 3.0f}, {"tilt", -0.8f, 0.8f, 3.0f}};
const wpg_config CONFIG = {"pan_tilt", JOINTS, NUM, 50000, 100000, nullptr, 0};

Servo servos[NUM];
float commanded_rad[NUM];  // hobby servos tell nothing: what was commanded stands for what is measured
wpg_device device;

void send_bytes(void *, const uint8_t *data, size_t size) {
  Serial.write(data, size);
}

void measure(void *, float *position, float *velocity, float *torque) {
  for (int i = 0; i < NUM; i++) {
    position[i] = commanded_rad[i];
    velocity[i] = torque[i] = 0.0f;
  }
}

void drive(void *, const float *position, const float *) {
  for (int i = 0; i < NUM; i++) {
    commanded_rad[i] = position[i];
    if (!servos[i].attached()) servos[i].attach(PINS[i]);
    servos[i].writeMicroseconds(1500 + (int)(position[i] * 636.6f));  // 1 ms for a quarter turn
  }
}

void stop(void *, wpg_stop_mode mode) {
  // A hobby servo holds its last pulse; it cannot damp, so it lets go.
  for (int i = 0; i < NUM; i++)
    if (mode != WPG_HOLD) servos[i].detach();
}

uint32_t random_number(void *) {
  // Enough to tell sessions apart. With a key use the board's hardware generator (esp_random() and the like).
  return (uint32_t)random(1, 0x7FFFFFFF) ^ micros();
}

const wpg_hooks HOOKS = {send_bytes, measure, drive, stop, random_number};

uint64_t now_us() {
  static uint32_t last, turns;
  uint32_t now = micros();  // wraps every 71 minutes
  if (now < last) turns++;
  last = now;
  return ((uint64_t)turns << 32) | now;
}

void setup() {
  Serial.begin(1000000);
  if (!wpg_init(&device, &CONFIG, &HOOKS, nullptr))
    for (;;) {
    }
}

void loop() {
  uint8_t data[64];
  size_t size = 0;
  while (Serial.available() && size < sizeof data) data[size++] = (uint8_t)Serial.read();
  if (size) wpg_receive(&device, data, size, now_us());
  wpg_update(&device, now_us());
}
