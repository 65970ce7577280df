#include "wpg_device.h"

#include <math.h>
#include <string.h>

enum { HEADER = 18, TAG = 16, CRC = 4, KEYED = 0x80, VERSION = 1 };
enum { IDENTIFY = 1, IDENTITY, POLL, STATE, COMMAND, ARM, STOP };

typedef struct {
    uint8_t type;
    uint32_t session, sequence;
    const uint8_t *payload;
    size_t size;
} frame;

/* A frame's content as it is built; what does not fit is noticed, not written. */
typedef struct {
    uint8_t data[WPG_MAX_FRAME];
    size_t size;
    bool overflown;
} body;

/* Numbers are little-endian on the wire, whatever they are here. */

static uint32_t get_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float get_float(const uint8_t *p) {
    uint32_t bits = get_u32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void put(body *b, uint64_t value, int bytes) {
    if (b->size + (size_t)bytes > sizeof b->data) {
        b->overflown = true;
        return;
    }
    for (; bytes > 0; bytes--, value >>= 8) b->data[b->size++] = (uint8_t)value;
}

static void put_floats(body *b, const float *values, int count) {
    for (int i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        put(b, bits, 4);
    }
}

static void put_name(body *b, const char *name) {
    size_t size = strlen(name);
    if (size > 255) b->overflown = true;
    put(b, size, 1);
    for (; *name; name++) put(b, (uint8_t)*name, 1);
}

/* CRC-32 of zlib, four bits at a time: a table of 64 bytes. */
static uint32_t crc32(const uint8_t *data, size_t size) {
    static const uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    uint32_t crc = 0xFFFFFFFF;
    while (size--) {
        crc ^= *data++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

/* BLAKE2s, RFC 7693, keyed, 16 bytes out. */

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static const uint32_t blake_iv[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                     0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};

static void blake_block(uint32_t h[8], const uint8_t block[64], uint32_t count, bool last) {
    static const uint8_t sigma[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
        {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
        {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
        {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
        {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
    static const uint8_t columns[8][4] = {{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15},
                                          {0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}};
    uint32_t v[16], m[16];
    for (int i = 0; i < 8; i++) v[i] = h[i], v[i + 8] = blake_iv[i];
    for (int i = 0; i < 16; i++) m[i] = get_u32(block + 4 * i);
    v[12] ^= count;
    if (last) v[14] = ~v[14];
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 8; i++) {
            uint32_t *a = v + columns[i][0], *b = v + columns[i][1], *c = v + columns[i][2], *d = v + columns[i][3];
            *a += *b + m[sigma[round][2 * i]], *d = rotate(*d ^ *a, 16);
            *c += *d, *b = rotate(*b ^ *c, 12);
            *a += *b + m[sigma[round][2 * i + 1]], *d = rotate(*d ^ *a, 8);
            *c += *d, *b = rotate(*b ^ *c, 7);
        }
    }
    for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
}

static void make_tag(uint8_t tag[TAG], const wpg_config *config, const uint8_t *data, size_t size) {
    uint32_t h[8];
    uint8_t block[64] = {0};
    memcpy(h, blake_iv, sizeof h);
    h[0] ^= 0x01010000u ^ (uint32_t)config->key_size << 8 ^ TAG;
    memcpy(block, config->key, config->key_size);
    blake_block(h, block, 64, false); /* a frame always follows the key */
    for (size_t done = 0; done < size;) {
        size_t part = size - done < 64 ? size - done : 64;
        memset(block, 0, sizeof block);
        memcpy(block, data + done, part);
        done += part;
        blake_block(h, block, (uint32_t)(64 + done), done == size);
    }
    for (int i = 0; i < TAG; i++) tag[i] = (uint8_t)(h[i / 4] >> 8 * (i % 4));
}

static bool same_tag(const uint8_t *a, const uint8_t *b) {
    uint8_t difference = 0; /* in a time that says nothing of where they differ */
    for (int i = 0; i < TAG; i++) difference |= (uint8_t)(a[i] ^ b[i]);
    return difference == 0;
}

/* Decodes in place, where the result is always the shorter; 0 where this is no COBS. */
static size_t cobs_decode(uint8_t *data, size_t size) {
    size_t from = 0, to = 0;
    while (from < size) {
        uint8_t code = data[from++];
        if (code == 0 || from + code - 1 > size) return 0;
        memmove(data + to, data + from, (size_t)code - 1);
        from += (size_t)code - 1;
        to += (size_t)code - 1;
        if (code < 255 && from < size) data[to++] = 0;
    }
    return to;
}

static void send_encoded(wpg_device *d, const body *b) {
    uint8_t encoded[WPG_MAX_FRAME + WPG_MAX_FRAME / 254 + 4];
    size_t to = 2, code_at = 1;
    uint8_t code = 1;
    encoded[0] = 0;
    for (size_t i = 0; i < b->size; i++) {
        if (b->data[i]) encoded[to++] = b->data[i], code++;
        if (!b->data[i] || (code == 255 && i + 1 < b->size)) {
            encoded[code_at] = code;
            code_at = to++;
            code = 1;
        }
    }
    encoded[code_at] = code;
    encoded[to++] = 0;
    d->hooks->send(d->arm, encoded, to);
}

static void put_header(body *b, const wpg_device *d, uint8_t type, uint32_t session, uint64_t now_us) {
    put(b, VERSION, 1);
    put(b, type | (d->config->key ? KEYED : 0), 1);
    put(b, session, 4);
    put(b, d->sequence, 4);
    put(b, now_us, 8);
}

static bool finish(body *b, const wpg_device *d) {
    if (d->config->key) {
        uint8_t tag[TAG];
        make_tag(tag, d->config, b->data, b->size);
        for (int i = 0; i < TAG; i++) put(b, tag[i], 1);
    }
    put(b, crc32(b->data, b->size), 4);
    return !b->overflown;
}

static bool build_identity(body *b, wpg_device *d, const frame *asked, uint32_t session, uint64_t now_us) {
    const wpg_config *config = d->config;
    d->sequence++;
    put_header(b, d, IDENTITY, asked->session, now_us);
    put(b, asked->sequence, 4);
    put(b, session, 4);
    put(b, config->watchdog_us, 4);
    put(b, config->servo_rate_mhz, 4);
    put(b, config->num_joints, 1);
    put_name(b, config->robot);
    for (int i = 0; i < config->num_joints; i++) put_name(b, config->joints[i].name);
    return finish(b, d);
}

static void measure(wpg_device *d, float *position, float *velocity, float *torque) {
    d->hooks->measure(d->arm, position, velocity, torque);
    d->blind = false;
    for (int i = 0; i < d->config->num_joints; i++)
        if (!isfinite(position[i]) || !isfinite(velocity[i]) || !isfinite(torque[i])) d->blind = true;
}

static void send_state(wpg_device *d, const frame *asked, uint64_t now_us) {
    float position[WPG_MAX_JOINTS] = {0}, velocity[WPG_MAX_JOINTS] = {0}, torque[WPG_MAX_JOINTS] = {0};
    bool others = d->status == WPG_ARMED && asked->session != d->commander;
    body b = {{0}, 0, false};
    int count = d->config->num_joints;
    measure(d, position, velocity, torque);
    d->sequence++;
    put_header(&b, d, STATE, asked->session, now_us);
    put(&b, asked->sequence, 4);
    put(&b, d->tick, 4);
    put(&b, d->status, 1);
    put(&b, others ? WPG_NOT_COMMANDER : d->refusal, 1);
    put(&b, (uint64_t)count, 1);
    put_floats(&b, position, count);
    put_floats(&b, velocity, count);
    put_floats(&b, torque, count);
    if (finish(&b, d)) send_encoded(d, &b);
}

/* A fault stays one, but the arm is stopped in it as in any other status. */
static void halt(wpg_device *d, wpg_stop_mode mode) {
    d->hooks->stop(d->arm, mode);
    d->driven = false;
    if (d->status == WPG_FAULT) return;
    d->status = mode == WPG_HOLD ? WPG_HOLDING : mode == WPG_DAMP ? WPG_DAMPING : WPG_RELEASED;
}

static void open_session(wpg_device *d, const frame *asked, uint64_t now_us) {
    body b = {{0}, 0, false};
    uint32_t id = d->hooks->random(d->arm);
    int oldest = -1;
    if (id == 0) id = 1; /* 0 marks a free place */
    for (int i = 0; i < WPG_SESSIONS; i++) {
        bool commands = d->sessions[i].id != 0 && d->sessions[i].id == d->commander;
        if (!commands && (oldest < 0 || d->sessions[i].age < d->sessions[oldest].age)) oldest = i;
    }
    d->sessions[oldest].id = id;
    d->sessions[oldest].sequence = 0;
    d->sessions[oldest].age = ++d->ages;
    if (build_identity(&b, d, asked, id, now_us)) send_encoded(d, &b);
}

/* Frames count upwards within their session, so that nothing repeated or recorded does anything. */
static bool is_new(wpg_device *d, const frame *f) {
    for (int i = 0; i < WPG_SESSIONS; i++) {
        if (d->sessions[i].id != 0 && d->sessions[i].id == f->session) {
            uint32_t ahead = f->sequence - d->sessions[i].sequence;
            if (ahead == 0 || ahead >= 0x80000000u) return false;
            d->sessions[i].sequence = f->sequence;
            return true;
        }
    }
    return false;
}

static void drive(wpg_device *d, const float *position, const float *velocity, uint64_t now_us) {
    d->hooks->drive(d->arm, position, velocity);
    memcpy(d->last_position_rad, position, sizeof d->last_position_rad);
    d->driven = true;
    d->last_command_us = now_us;
}

static void take_arm(wpg_device *d, const frame *f, uint64_t now_us) {
    float position[WPG_MAX_JOINTS] = {0}, still[WPG_MAX_JOINTS] = {0};
    float unused[2][WPG_MAX_JOINTS] = {{0}};
    if (d->status == WPG_FAULT) return;
    if (d->status == WPG_ARMED && f->session != d->commander) {
        d->counts.frames_foreign++;
        return;
    }
    measure(d, position, unused[0], unused[1]);
    if (d->blind) {
        d->refusal = WPG_NOT_FINITE;
        return;
    }
    d->commander = f->session;
    drive(d, position, still, now_us);
    d->status = WPG_ARMED;
    d->refusal = WPG_FOLLOWED;
    d->ticking = false;
    d->counts.arms++;
}

/* Ticks are the sender's word: no more periods than the watchdog waits for, and one. */
static uint64_t periods_max(const wpg_config *config) {
    return ((uint64_t)config->watchdog_us * config->servo_rate_mhz + 999999999u) / 1000000000u + 1;
}

static wpg_refusal judge(const wpg_device *d, const float *position, const float *velocity, uint32_t tick) {
    int32_t ticks = d->ticking ? (int32_t)(tick - d->tick) : 1;
    if (d->blind) return WPG_NOT_FINITE;
    if (ticks <= 0) return WPG_VELOCITY_LIMIT; /* each would buy a whole period's way */
    uint64_t periods = (uint64_t)ticks, most = periods_max(d->config);
    float span_s = (float)(periods < most ? periods : most) * 1000.0f / (float)d->config->servo_rate_mhz;
    for (int i = 0; i < d->config->num_joints; i++)
        if (!isfinite(position[i]) || !isfinite(velocity[i])) return WPG_NOT_FINITE;
    for (int i = 0; i < d->config->num_joints; i++) {
        const wpg_joint *joint = &d->config->joints[i];
        if (position[i] < joint->position_min_rad || position[i] > joint->position_max_rad) return WPG_POSITION_LIMIT;
    }
    for (int i = 0; i < d->config->num_joints; i++) {
        /* A thousandth more than the limit: what rounding to float may add. */
        float fastest = 1.001f * d->config->joints[i].velocity_max_rad_s;
        float speed = (position[i] - d->last_position_rad[i]) / span_s;
        if (!(fabsf(speed) <= fastest && fabsf(velocity[i]) <= fastest)) return WPG_VELOCITY_LIMIT;
    }
    return WPG_FOLLOWED;
}

static void take_command(wpg_device *d, const frame *f, uint64_t now_us) {
    float position[WPG_MAX_JOINTS] = {0}, velocity[WPG_MAX_JOINTS] = {0};
    uint32_t tick = get_u32(f->payload);
    int count = f->payload[4];
    if (f->session != d->commander) {
        d->counts.frames_foreign++;
        return;
    }
    if (d->status != WPG_ARMED) {
        if (d->refusal != WPG_STOPPED) d->refusal = WPG_NOT_ARMED;
    } else if (count != d->config->num_joints) {
        d->refusal = WPG_WRONG_SIZE;
    } else {
        for (int i = 0; i < count; i++) {
            position[i] = get_float(f->payload + 5 + 4 * i);
            velocity[i] = get_float(f->payload + 5 + 4 * (count + i));
        }
        d->refusal = judge(d, position, velocity, tick);
    }
    if (d->refusal != WPG_FOLLOWED) {
        d->counts.commands_refused++;
        return;
    }
    drive(d, position, velocity, now_us);
    d->tick = tick;
    d->ticking = true;
    d->counts.commands_ok++;
}

static bool well_formed(const frame *f) {
    switch (f->type) {
    case IDENTIFY:
    case POLL:
    case ARM:
        return f->size == 0;
    case STOP:
        return f->size == 1 && f->payload[0] >= WPG_HOLD && f->payload[0] <= WPG_RELEASE;
    case COMMAND:
        return f->size >= 5 && f->size == 5 + 8 * (size_t)f->payload[4];
    default: /* identities and states are sent, not taken */
        return false;
    }
}

static void take_frame(wpg_device *d, const frame *f, uint64_t now_us) {
    if (f->type == IDENTIFY) {
        open_session(d, f, now_us);
        return;
    }
    if (!is_new(d, f)) {
        d->counts.frames_foreign++;
        return;
    }
    if (f->type == COMMAND) {
        take_command(d, f, now_us);
        return;
    }
    if (f->type == ARM) take_arm(d, f, now_us);
    if (f->type == STOP) {
        halt(d, (wpg_stop_mode)f->payload[0]);
        d->refusal = WPG_STOPPED;
    }
    send_state(d, f, now_us);
}

/* What stood between two zeros. */
static void take_encoded(wpg_device *d, uint64_t now_us) {
    uint8_t *data = d->input, tag[TAG];
    size_t size = cobs_decode(data, d->received);
    frame f;
    if (size < HEADER + CRC || get_u32(data + size - CRC) != crc32(data, size - CRC) || data[0] != VERSION) {
        d->counts.frames_bad++;
        return;
    }
    size -= CRC;
    if (data[1] & KEYED) {
        if (size < HEADER + TAG) {
            d->counts.frames_bad++;
            return;
        }
        size -= TAG;
    }
    if (d->config->key) {
        make_tag(tag, d->config, data, size);
        if (!(data[1] & KEYED) || !same_tag(tag, data + size)) {
            d->counts.frames_unauthenticated++;
            return;
        }
    }
    f.type = data[1] & (uint8_t)~KEYED;
    f.session = get_u32(data + 2);
    f.sequence = get_u32(data + 6);
    f.payload = data + HEADER;
    f.size = size - HEADER;
    if (!well_formed(&f)) {
        d->counts.frames_bad++;
        return;
    }
    d->counts.frames_ok++;
    take_frame(d, &f, now_us);
}

bool wpg_init(wpg_device *d, const wpg_config *config, const wpg_hooks *hooks, void *arm) {
    body b = {{0}, 0, false};
    frame nobody = {IDENTIFY, 0, 0, NULL, 0};
    memset(d, 0, sizeof *d);
    d->config = config;
    d->hooks = hooks;
    d->arm = arm;
    if (config->num_joints == 0 || config->num_joints > WPG_MAX_JOINTS || config->servo_rate_mhz == 0) return false;
    if (config->key && (config->key_size == 0 || config->key_size > WPG_KEY_MAX)) return false;
    return build_identity(&b, d, &nobody, 0, 0);
}

void wpg_receive(wpg_device *d, const uint8_t *data, size_t size, uint64_t now_us) {
    for (size_t i = 0; i < size; i++) {
        if (data[i] == 0) {
            if (d->received > 0 && !d->skipping) take_encoded(d, now_us);
            d->received = 0;
            d->skipping = false;
        } else if (d->received < sizeof d->input) {
            d->input[d->received++] = data[i];
        } else {
            if (!d->skipping) d->counts.frames_bad++;
            d->skipping = true;
        }
    }
}

void wpg_update(wpg_device *d, uint64_t now_us) {
    bool silent = d->status == WPG_ARMED && now_us - d->last_command_us >= d->config->watchdog_us;
    if (silent) d->counts.holds++;
    if (silent || (d->status == WPG_FAULT && d->driven)) halt(d, WPG_HOLD);
}
