// What callers write with a client that openapi-typescript has made of the document. Compiled, not run.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

const api = createClient<paths>({ baseUrl: "http://127.0.0.1:7001", headers: { Authorization: "Bearer key" } });

export async function all(): Promise<void> {
  // What may be left out may be left out; ids are numbers or strings.
  await api.POST("/v1/connections", { body: { client: 42 } });
  await api.POST("/v1/connections", { body: { client: "9007199254740993", meta: "browser" } });
  const sent = await api.POST("/v1/messages", { body: { receivers: [42, "43"], message: { text: "hello" } } });
  const id: string | null | undefined = sent.data?.id;
  await api.POST("/v1/messages", {
    body: { sender: 1, receivers: [2], message: null, receipt: true, id: id ?? "m-1" },
    params: { header: { "Idempotency-Key": "k" } },
  });
  await api.POST("/v1/messages/batch", {
    body: {
      messages: [
        { receivers: [2], message: 1 },
        { channel: "lobby", message: 2 },
        { broadcast: true, message: 3 },
      ],
    },
  });
  await api.POST("/v1/channels/{channel}/messages", { params: { path: { channel: "a" } }, body: { message: [1] } });
  await api.POST("/v1/broadcast", { body: { message: true } });
  await api.POST("/v1/memberships", { body: { join: [{ client: 42, channel: "lobby" }] } });
  await api.PUT("/v1/channels/{channel}/clients/{client}", { params: { path: { channel: "a", client: 42 } } });
  await api.DELETE("/v1/clients/{client}/connections", { params: { path: { client: "42" } } });

  let after: string | undefined;
  do {
    const page = await api.GET("/v1/clients", { params: { query: { limit: 100, after } } });
    for (const client of page.data?.clients ?? []) {
      const text: string = client;
      console.log(text);
    }
    after = page.data?.next ?? undefined;
  } while (after);

  const refused = await api.GET("/v1/clients/{client}", { params: { path: { client: 42 } } });
  if (refused.error) {
    const problem: components["schemas"]["Problem"] = refused.error;
    console.log(problem.code, problem.detail, problem.pointer);
  }
  const nodes: components["schemas"]["Node"][] = (await api.GET("/v1/nodes")).data?.nodes ?? [];
  console.log(nodes.map((node) => node.status?.connections));

  // @ts-expect-error: an unknown member is a mistake before it is sent
  await api.POST("/v1/broadcast", { body: { text: "?" } });
}
