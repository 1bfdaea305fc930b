/* log.h - what the program tells its operator, one line each, to stderr. Thread: any.
 *
 * 2026-01-31T12:00:00.123Z info  store: opened the log: head 1092, floor 0
 *
 * Warnings and errors that are equal but for numbers are told once, then counted and told seldom:
 * "store: the disk is full: 9 rows refused (the same 120 times more)"; see log_repeat.h. */
#pragma once

#include "protocol/base.h"

typedef enum tw_log_level { TW_LOG_ERROR, TW_LOG_WARN, TW_LOG_INFO, TW_LOG_DEBUG } tw_log_level;

void tw_log_set_level(tw_log_level level); /* default TW_LOG_INFO */
void tw_log(tw_log_level level, const char *who, const char *format, ...) TW_PRINTF(3, 4);
