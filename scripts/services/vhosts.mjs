// @ts-check

/**
 * Makes a virtual host over RabbitMQ's HTTP API, for the URL's user.
 *
 * @param {string} url
 * @param {string | undefined} managementUrl Default: port 15672 of the same host.
 * @param {string} name
 */
export async function createVhost(url, managementUrl, name) {
  const vhost = encodeURIComponent(name);
  await call(url, managementUrl, 'PUT', `/api/vhosts/${vhost}`, {});
  const { username } = new URL(url);
  const user = username === '' ? 'guest' : username;
  const permissions = { configure: '.*', write: '.*', read: '.*' };
  await call(url, managementUrl, 'PUT', `/api/permissions/${vhost}/${user}`, permissions);
}

/**
 * @param {string} url
 * @param {string | undefined} managementUrl
 * @param {string} name
 */
export async function deleteVhost(url, managementUrl, name) {
  await call(url, managementUrl, 'DELETE', `/api/vhosts/${encodeURIComponent(name)}`, undefined);
}

/**
 * @param {string} url
 * @param {string | undefined} managementUrl
 * @param {string} method
 * @param {string} path
 * @param {object | undefined} body
 */
async function call(url, managementUrl, method, path, body) {
  const { hostname, username, password } = new URL(url);
  const base = managementUrl ?? `http://${hostname}:15672`;
  const credentials =
    username === '' ? 'guest:guest' : `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const request = {
    method,
    headers: {
      authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
      'content-type': 'application/json',
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(30_000),
  };
  const response = await fetch(`${base}${path}`, request).catch((cause) => {
    const hint =
      'tests make virtual hosts over RabbitMQ’s HTTP API: enable rabbitmq_management, or set AMQP_MANAGEMENT_URL';
    throw new Error(`${method} ${base}${path} failed: ${hint}`, { cause });
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${base}${path} answered ${response.status}: ${text}`);
}
