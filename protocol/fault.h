/* fault.h - places where a process may be told to die, so that tests kill it exactly there.
 *
 * TIDEWIRE_FAULT="name:count" makes the process kill itself (SIGKILL, as a power cut would) when it
 * passes the point of that name for the count-th time. Without the variable a point costs one load.
 * The points stand where they are passed: grep tw_fault. Thread: any. */
#pragma once

void tw_fault(const char *point);
/* Arms a point as the variable does; NULL disarms (tests). Called before threads start. */
void tw_fault_arm(const char *spec);
