/* switched.ts - a WebSocket with a switch, so that a pane can be taken off the network by hand. */

export interface Switch {
  readonly isOn: boolean;
  set(isOn: boolean): void;
  /** For `connect`. */
  readonly Socket: new (url: string) => WebSocket;
}

export function makeSwitch(): Switch {
  const open = new Set<WebSocket>();
  let isOn = true;
  class Socket extends WebSocket {
    constructor(url: string) {
      if (!isOn) throw new Error("switched off");
      super(url);
      open.add(this);
      this.addEventListener("close", () => open.delete(this));
    }
  }
  return {
    get isOn() {
      return isOn;
    },
    set(wanted) {
      isOn = wanted;
      if (isOn) dispatchEvent(new Event("online")); // what a browser says when the network is back
      else for (const socket of open) socket.close();
    },
    Socket,
  };
}
