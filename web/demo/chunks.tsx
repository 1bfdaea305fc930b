/* chunks.tsx - a long list: only what is near the screen is made. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

const CHUNK = 20; // items that come and go together
const GUESS_PX = 170; // the height of an item that was never drawn
const NEAR = "1200px 0px"; // beyond the screen

interface Props<Item> {
  items: readonly Item[];
  children(item: Item): ComponentChildren;
}

export function Chunks<Item>({ items, children }: Props<Item>) {
  const chunks: Item[][] = [];
  for (let i = 0; i < items.length; i += CHUNK) chunks.push(items.slice(i, i + CHUNK));
  return (
    <>
      {chunks.map((chunk, i) => (
        <Chunk key={i} isFirst={i === 0} items={chunk}>
          {children}
        </Chunk>
      ))}
    </>
  );
}

/** What is being written in it keeps a chunk, however far it is. */
function isInUse(place: HTMLElement): boolean {
  return place.contains(document.activeElement) || place.querySelector("form.stack") !== null;
}

function Chunk<Item>({ items, children, isFirst }: Props<Item> & { isFirst: boolean }) {
  const place = useRef<HTMLLIElement>(null);
  const [isNear, setNear] = useState(isFirst);
  const each = useRef(GUESS_PX);
  useEffect(() => {
    const element = place.current as HTMLLIElement;
    const observer = new IntersectionObserver(
      ([seen]) => {
        if (seen?.isIntersecting) return setNear(true);
        if (isFirst || isInUse(element)) return;
        const made = element.firstElementChild?.childElementCount ?? 0;
        if (made > 0) each.current = element.offsetHeight / made;
        setNear(false);
      },
      { rootMargin: NEAR },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return (
    <li ref={place} class="chunk" style={isNear ? undefined : { height: `${items.length * each.current}px` }}>
      {isNear && <ul class="rows">{items.map((item) => children(item))}</ul>}
    </li>
  );
}
