/* The device's side of wpg's native frames, docs/native_protocol.md: C99, no dynamic memory, no I/O of its own.
 *
 * Fill a wpg_config and a wpg_hooks, call wpg_init once, wpg_receive with whatever bytes have come, and
 * wpg_update at least every few milliseconds. One device takes about half a kilobyte of RAM.
 */
#ifndef WPG_DEVICE_H
#define WPG_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef WPG_MAX_JOINTS
#define WPG_MAX_JOINTS 8
#endif
#ifndef WPG_MAX_FRAME
#define WPG_MAX_FRAME 320 /* encoded; the identity with its names is the longest that is sent */
#endif
#define WPG_SESSIONS 8
#define WPG_KEY_MAX 32

typedef enum {
    WPG_IDLE = 0,
    WPG_ARMED = 1,
    WPG_HOLDING = 2,
    WPG_DAMPING = 3,
    WPG_RELEASED = 4,
    WPG_FAULT = 5
} wpg_status;

typedef enum { WPG_HOLD = 1, WPG_DAMP = 2, WPG_RELEASE = 3 } wpg_stop_mode;

typedef enum {
    WPG_FOLLOWED = 0,
    WPG_NOT_ARMED = 1,
    WPG_NOT_FINITE = 2, /* the command, or what the arm measures */
    WPG_POSITION_LIMIT = 3,
    WPG_VELOCITY_LIMIT = 4,
    WPG_NOT_COMMANDER = 5,
    WPG_WRONG_SIZE = 6,
    WPG_STOPPED = 7 /* by an order, not by the watchdog */
} wpg_refusal;

/* A gripper is one more, named "gripper", behind the joints: its opening in m, from 0, and m/s. */
typedef struct {
    const char *name;
    float position_min_rad, position_max_rad, velocity_max_rad_s;
} wpg_joint;

typedef struct {
    const char *robot; /* names and order as in the robot's TOML file */
    const wpg_joint *joints;
    uint8_t num_joints;
    uint32_t servo_rate_mhz; /* thousandths of a hertz */
    uint32_t watchdog_us;
    const uint8_t *key; /* NULL: frames are not tagged */
    uint8_t key_size;
} wpg_config;

/* What the device does with its arm; arrays are of num_joints. */
typedef struct {
    void (*send)(void *arm, const uint8_t *data, size_t size);
    void (*measure)(void *arm, float *position_rad, float *velocity_rad_s, float *torque_nm);
    void (*drive)(void *arm, const float *position_rad, const float *velocity_rad_s); /* torque on, go there */
    void (*stop)(void *arm, wpg_stop_mode mode);
    uint32_t (*random)(void *arm); /* hard to guess where frames are tagged */
} wpg_hooks;

typedef struct {
    uint32_t frames_ok, frames_bad, frames_unauthenticated, frames_foreign;
    uint32_t commands_ok, commands_refused, arms, holds;
} wpg_counts;

typedef struct {
    const wpg_config *config;
    const wpg_hooks *hooks;
    void *arm;
    wpg_status status; /* the application may set WPG_FAULT, and WPG_IDLE once it is mended */
    wpg_refusal refusal;
    wpg_counts counts;
    struct {
        uint32_t id, sequence, age;
    } sessions[WPG_SESSIONS];
    uint32_t commander, ages, sequence, tick;
    bool ticking, skipping;
    bool driven; /* told to go somewhere, and not stopped since */
    bool blind;  /* something that was measured last is not finite */
    uint64_t last_command_us;
    float last_position_rad[WPG_MAX_JOINTS];
    size_t received;
    uint8_t input[WPG_MAX_FRAME];
} wpg_device;

/* False where the configuration does not hold together or its names do not fit a frame. */
bool wpg_init(wpg_device *device, const wpg_config *config, const wpg_hooks *hooks, void *arm);

/* Take bytes from the line, in pieces of any size. */
void wpg_receive(wpg_device *device, const uint8_t *data, size_t size, uint64_t now_us);

/* The watchdog: holds the arm where commands have stopped, or where a fault finds it driven. */
void wpg_update(wpg_device *device, uint64_t now_us);

#ifdef __cplusplus
}
#endif
#endif
